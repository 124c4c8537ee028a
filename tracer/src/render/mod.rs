//! Drawing a [`Summary`](crate::analyze::Summary): for people, for programs, as a picture.

pub mod answer;
pub mod compare;
mod completeness;
pub mod deadlocks;
pub mod energy;
pub mod escape;
pub mod flamegraph;
pub mod folded;
mod graph;
mod graph_json;
pub mod json;
mod paths;
mod pauses;
mod people;
mod place;
mod rows;
mod sites;
pub mod streamed;
mod tables;
pub mod text;
mod uprobes;
