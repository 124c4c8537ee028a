//! What is added up beside locks.

/// What is added up beside locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// [`Summary::pairs`](crate::analyze::Summary::pairs).
    pub pairs: bool,
    /// [`Summary::links`](crate::analyze::Summary::links), the largest table.
    pub links: bool,
    /// [`Summary::waiting`](crate::analyze::Summary::waiting), `holding` and `links` by thread: else
    /// all threads together are one there, whose record can't be read.
    pub threads: bool,
    /// [`Summary::graph`](crate::analyze::Summary::graph), and how long locks were held.
    pub graph: bool,
    /// [`EnergySummary::counterfactual`](crate::analyze::energy::EnergySummary::counterfactual),
    /// which needs the graph.
    pub counterfactual: bool,
    /// Owners count as holders also where they moved while they were looked at.
    pub unverified: bool,
}

impl Default for Want {
    /// Everything but what is only on request, of owners that stood still.
    fn default() -> Self {
        Self {
            pairs: true,
            links: true,
            threads: true,
            graph: true,
            counterfactual: false,
            unverified: false,
        }
    }
}
