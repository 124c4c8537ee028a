//! Golden files: what the tests compare with, byte by byte.

use std::path::PathBuf;

/// Where a golden file is.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Golden files are written anew rather than compared: `LOCKWATT_BLESS=1 cargo test`.
pub(crate) fn bless() -> bool {
    std::env::var_os("LOCKWATT_BLESS").is_some_and(|value| value == "1")
}
