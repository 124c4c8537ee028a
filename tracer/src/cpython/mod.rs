//! Which CPython is this, where does it keep its locks, what is a lock's name, and which Python
//! code does a thread run?

mod attributes;
mod block;
mod code;
mod debug_offsets;
mod detect;
#[cfg(test)]
mod fake;
mod frame_fields;
mod frame_layout;
mod frame_values;
mod held;
mod layout;
mod lines;
mod name;
mod runtime_fields;
mod situation;
mod text;
mod thread_name;
mod thread_states;
mod verify;
mod walk;

pub use attributes::{AttributeLayout, ValuesPlace};
pub use code::{CodeNames, Place, Resolved};
pub use detect::{Detected, Interpreter, detect};
pub use frame_fields::{
    CODE_BYTES, CodeFields, FRAME_BYTES, FrameFields, FrameLayout, InterpreterFields, THREAD_BYTES,
    ThreadFields,
};
pub use frame_values::{first_locals, lock_object};
pub use held::{Held, held_locks};
pub use layout::{Layout, LayoutError};
pub use lines::line;
pub use name::{LockName, Namer, Seen, Told};
pub use situation::{Frame, LockType, Situation, situation};
pub use text::{MAX_TEXT, StateBits, StringLayout, read_bytes, read_str};
pub use thread_name::thread_name;
pub use thread_states::{interpreters, thread_ident, thread_states};
pub use verify::verify;
pub use walk::{Walk, walk};

use std::fmt;

/// `PY_VERSION_HEX`: `0x030e09f0` is 3.14.9 final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

impl Version {
    /// Major and minor number.
    #[must_use]
    pub fn minor(self) -> (u8, u8) {
        let [major, minor, ..] = self.0.to_be_bytes();
        (major, minor)
    }
}

impl fmt::Display for Version {
    /// `3.14.9`, `3.15.0b2`, as `platform.python_version()` writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, micro, level] = self.0.to_be_bytes();
        write!(f, "{major}.{minor}.{micro}")?;
        match level >> 4 {
            0xa => write!(f, "a{}", level & 15),
            0xb => write!(f, "b{}", level & 15),
            0xc => write!(f, "rc{}", level & 15),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn versions_read_as_python_writes_them() {
        assert_eq!(Version(0x030e_09f0).to_string(), "3.14.9");
        assert_eq!(Version(0x030f_00b2).to_string(), "3.15.0b2");
        assert_eq!(Version(0x030b_02f0).minor(), (3, 11));
    }
}
