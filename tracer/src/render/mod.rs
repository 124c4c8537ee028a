//! Drawing a [`Summary`](crate::analyze::Summary): for people, for programs, as a picture.

pub mod answer;
mod completeness;
pub mod escape;
pub mod flamegraph;
pub mod folded;
pub mod json;
mod paths;
mod place;
mod rows;
mod sites;
mod tables;
pub mod text;
mod uprobes;
