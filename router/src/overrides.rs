//! Overrides and trust: what a request may say about its route, and who may say it (requirements §5, docs/overrides.md).
//!
//! [`Gate`] is the door of one listener: it takes overrides out of a request's head and says no where a mode, a policy or
//! a set says no. [`Choice`] tells whose choice a leaf is, `address` which addresses no request may choose. Called by
//! `request` and `route`. Not for: the config (`config::overrides`), parsing tables (`dtab`).

pub mod address;
pub mod baggage;
mod caller;
mod choice;
mod denial;
mod gate;

pub use caller::{CallerIdentity, Cidr, source};
pub use choice::{Choice, concrete};
pub use denial::Denial;
pub use gate::{Admitted, Gate};

use crate::config::OverrideSet;
use std::sync::Arc;

/// The sets that a request names, in order; part of where it goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Sets(Arc<[Arc<OverrideSet>]>);

impl Sets {
    /// These sets.
    pub fn new(sets: Vec<Arc<OverrideSet>>) -> Sets {
        Sets(sets.into())
    }

    /// The sets in order.
    pub fn iter(&self) -> impl Iterator<Item = &OverrideSet> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// True when no set is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
