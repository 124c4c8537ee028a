//! Durations on the command line: `10s`, `500ms`, `10us`, `1m 30s`.

use std::time::Duration;

use jiff::SignedDuration;

/// A duration with a unit; a bare number is seconds.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string());
    }
    with_unit(text)
}

/// A duration that must have a unit, unless it is 0: here a bare number could mean anything.
pub(super) fn parse_with_unit(text: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { with_unit(text) }
}

fn with_unit(text: &str) -> Result<Duration, String> {
    let signed: SignedDuration = text.parse().map_err(|_| {
        format!("`{text}` is no duration: write it with a unit, such as 10s, 500ms, 10us")
    })?;
    Duration::try_from(signed).map_err(|_| format!("`{text}` is negative"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_understood() {
        assert_eq!(parse("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_with_unit("10us"), Ok(Duration::from_micros(10)));
        assert_eq!(parse_with_unit("10µs"), Ok(Duration::from_micros(10)));
        assert_eq!(parse_with_unit("0"), Ok(Duration::ZERO));
        for bad in ["", "x", "-1s", "10 parsecs", "nan", "1e400"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse_with_unit("10").is_err());
    }
}
