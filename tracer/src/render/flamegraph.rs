//! Flame graph: the folded stacks as one SVG that can be searched and zoomed in a browser.

use std::io;

use inferno::flamegraph::{self, Options, TextTruncateDirection};

use super::completeness::missing_words;
use super::folded::{Picture, Stacks, Weight};
use super::text::{count, target_words};
use crate::analyze::{Side, Summary};
use crate::energy::Quality;
use crate::trace::records::Class;

/// Sums up to here survive inferno's floating-point arithmetic exactly.
const EXACT: u128 = 1 << 53;

/// The picture. Without stacks it is a valid SVG that says so.
///
/// # Errors
/// Only inferno's own; none is known for stacks from [`super::folded::stacks`].
pub fn svg(stacks: &Stacks, summary: &Summary, picture: Picture) -> io::Result<Vec<u8>> {
    let Picture { weight, side, idle } = picture;
    let sampled = weight == Weight::Spin && !summary.spin_measured();
    let energy = super::energy::present(summary).filter(|_| weight == Weight::Energy);
    let marked = match energy {
        Some(energy) if energy.source.quality != Quality::Measured => {
            format!(" ({})", energy.source.quality.name())
        }
        Some(_) => String::new(),
        None if sampled => " (sampled)".to_owned(),
        None => String::new(),
    };
    let title = format!("{}{marked}{}: {}", what(weight), by_whom(side), target_words(summary));
    let mut subtitle = subtitle(summary, idle);
    if energy.is_some() {
        subtitle += " · within each lock spread over its places by the yields there";
    }
    if stacks.is_empty() {
        return Ok(empty(&title, &subtitle).into_bytes());
    }
    let total: u128 = stacks.values().map(|&n| u128::from(n)).sum();
    let mut shrink = 1u64;
    while total / u128::from(shrink) > EXACT {
        shrink *= 2;
    }
    // Sorted here by stack: sorted by line, as inferno would, a name that continues another one
    // with a space could come out of order, which it refuses.
    let lines: Vec<String> =
        stacks.iter().map(|(stack, n)| format!("{stack} {}", n / shrink)).collect();
    let mut options = Options::default();
    options.title = title;
    options.subtitle = Some(subtitle);
    options.deterministic = true;
    options.no_sort = true;
    options.text_truncate_direction = TextTruncateDirection::Right;
    #[expect(clippy::cast_precision_loss, reason = "a power of two")]
    let shrunk = shrink as f64;
    (options.count_name, options.factor) = match weight {
        Weight::Count => ("waits".to_owned(), shrunk),
        Weight::Energy => ("µJ".to_owned(), shrunk),
        _ => ("µs".to_owned(), shrunk / 1000.0),
    };
    let mut out = Vec::new();
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut out)?;
    Ok(out)
}

fn what(weight: Weight) -> &'static str {
    match weight {
        Weight::Wait => "time waited for locks",
        Weight::Blocked => "time blocked on locks",
        Weight::Runq => "time woken but not running",
        Weight::Spin => "time spinning on locks",
        Weight::Count => "waits for locks",
        Weight::Energy => "energy attributed to on-CPU waiting",
    }
}

fn by_whom(side: Side) -> &'static str {
    match side {
        Side::Waiter => "",
        Side::Holder => ", by holder",
        Side::Both => ", by waiter and holder",
    }
}

/// What is in the picture and what is not.
fn subtitle(summary: &Summary, idle: bool) -> String {
    let idling = summary.class(Class::Idle).wait();
    let unclassified = summary.class(Class::Unclassified).wait();
    let c = &summary.completeness;
    let mut words = vec![
        format!("{} recorded", summary.duration),
        format!("{}{}", if c.whole() { "" } else { "INCOMPLETE: " }, missing_words(c)),
        format!("idle {idling} {}", if idle { "in" } else { "left out (--idle)" }),
    ];
    if unclassified.0 > 0 {
        words.push(format!("unclassified {unclassified} in"));
    }
    if let Some(energy) = &summary.energy {
        words.extend(super::energy::missing(energy));
    }
    words.extend(super::completeness::unseen_words(c));
    if c.spins_unattributed > 0 {
        words.push(format!("{} yields of no known lock left out", count(c.spins_unattributed)));
    }
    words.join(" · ")
}

fn empty(title: &str, subtitle: &str) -> String {
    let (title, subtitle) = (xml(title), xml(subtitle));
    format!(
        "<?xml version=\"1.0\" standalone=\"no\"?>\n\
         <svg version=\"1.1\" width=\"1200\" height=\"120\" viewBox=\"0 0 1200 120\" \
         xmlns=\"http://www.w3.org/2000/svg\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#eeeeee\"/>\n\
         <g font-family=\"monospace\" text-anchor=\"middle\">\n\
         <text x=\"600\" y=\"30\" font-size=\"17\">{title}</text>\n\
         <text x=\"600\" y=\"55\" font-size=\"12\">{subtitle}</text>\n\
         <text x=\"600\" y=\"90\" font-size=\"12\">nothing to show</text>\n\
         </g>\n</svg>\n"
    )
}

fn xml(text: &str) -> String {
    // The escaped text may be as long as it likes: only names are cut, and they were before.
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
