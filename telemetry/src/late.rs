//! [`Late`]: metrics that are registered when they are first needed.
//!
//! What it is for: names that many scopes never use, such as those of gRPC in a scope without gRPC: nothing is shown of
//! them, and nothing allocated. What it is not: for names whose absence would be read as a fault; those are there at 0.
//! Called by: whoever builds the counters of a scope; the data path asks with [`Late::get`], one load once it is there.

use std::sync::OnceLock;

use crate::Scope;

/// A `T` that registers itself in a scope, from the first [`Late::get`] on.
pub struct Late<T> {
    scope: Scope,
    make: fn(&Scope) -> T,
    made: OnceLock<T>,
}

impl<T> Late<T> {
    /// What `make` will register under `scope`.
    pub fn new(scope: &Scope, make: fn(&Scope) -> T) -> Late<T> {
        Late { scope: scope.clone(), make, made: OnceLock::new() }
    }

    /// The same, registered already.
    pub fn registered(self) -> Late<T> {
        self.get();
        self
    }

    /// The handles; the first call registers them.
    #[inline]
    pub fn get(&self) -> &T {
        self.made.get_or_init(|| (self.make)(&self.scope))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{JsonQuery, Metrics};

    #[test]
    fn nothing_is_registered_before_it_is_needed() {
        let metrics = Metrics::new();
        let shown = || metrics.render_json(&JsonQuery::default()).expect("JSON");
        let late = Late::new(&metrics.root(), |scope| scope.counter("late"));
        assert_eq!(shown(), "{}");
        late.get().incr();
        late.get().incr();
        assert_eq!(shown(), "{\"late\":2}");
        let _at_once = Late::new(&metrics.root(), |scope| scope.counter("once")).registered();
        assert!(shown().contains("\"once\":0"));
    }
}
