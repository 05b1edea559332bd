//! [`Gate`]: the door of one listener: what of a request's override and context comes in (requirements §5, rule 1).
//!
//! Precedence, the later wins: sets named in `baggage`, in `l5d-ctx-override`, in `l5d-override`; then the tables in
//! `l5d-ctx-dtab`, in `dtab-local` where that is read, in `l5d-dtab`. Lines of one header count in their order. Called
//! once per request by `request::prepare`; a request without any of these headers pays for looking at flags. Not for:
//! trailers, which never count.

use super::denial::LogLimit;
use super::{CallerIdentity, Choice, Denial, Sets, address, baggage, concrete};
use crate::clock;
use crate::config::{OverrideMode, OverrideParams, OverrideRule, OverrideSet, RouterParams, ServerParams};
use crate::context::{CTX_DTAB, Context, DTAB};
use crate::error::RouteError;
use crate::headers::{self, Seen};
use crate::route::Dst;
use dtab::Path;
use http::{HeaderMap, HeaderName};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

const OVERRIDE: HeaderName = HeaderName::from_static("l5d-override");
const CTX_OVERRIDE: HeaderName = HeaderName::from_static("l5d-ctx-override");
const DTAB_LOCAL: HeaderName = HeaderName::from_static("dtab-local");

/// See the module.
pub struct Gate {
    params: OverrideParams,
    clear: bool,
    trust_forwarded: Option<bool>,
    sets: HashMap<String, Arc<OverrideSet>>,
    baggage_key: String,
    /// The listener, for logs.
    label: String,
    lines: LogLimit,
}

/// What came in with a request.
#[derive(Debug, Default)]
pub struct Admitted {
    /// Tables, deadline, trace.
    pub context: Context,
    /// The sets that it names.
    pub sets: Sets,
    /// The names that came in headers of ours, to be passed on in one: `a, b`.
    pub carried: String,
    /// What the policy says of this caller's overrides.
    pub rule: Option<(usize, Arc<OverrideRule>)>,
}

impl Admitted {
    /// Appends to `key` what the destination depends on besides the name. No header can hold the marks between.
    pub fn memo_key(&self, key: &mut Vec<u8>) {
        if let Some((number, _)) = &self.rule {
            key.push(1);
            key.extend_from_slice(&number.to_le_bytes());
        }
        for set in self.sets.iter() {
            key.push(0);
            key.extend_from_slice(set.name.as_bytes());
        }
        for value in &self.context.raw_override {
            key.push(b'\n');
            key.extend_from_slice(value.as_bytes());
        }
    }

    /// True when there is something of an override.
    pub fn is_override(&self) -> bool {
        !self.sets.is_empty() || !self.context.raw_override.is_empty()
    }
}

/// Why a set does not count.
#[derive(Debug, Clone, Copy)]
enum NoSet {
    Unknown,
    Expired,
    Forbidden,
    TooLarge,
}

impl NoSet {
    fn label(self) -> &'static str {
        match self {
            NoSet::Unknown => "unknown-set",
            NoSet::Expired => "expired-set",
            NoSet::Forbidden => "forbidden-set",
            NoSet::TooLarge => "large-baggage",
        }
    }

    fn text(self, name: &[u8]) -> String {
        let name: String = String::from_utf8_lossy(name).chars().take(64).flat_map(char::escape_debug).collect();
        match self {
            NoSet::Unknown => format!("there is no override set `{name}` here"),
            NoSet::Expired => format!("the override set `{name}` has expired"),
            NoSet::Forbidden => format!("the override set `{name}` is not for this caller"),
            NoSet::TooLarge => {
                let (members, bytes) = (baggage::MAX_MEMBERS, baggage::MAX_BYTES);
                format!("`baggage` has more than {members} members or {bytes} bytes")
            }
        }
    }
}

/// The names of one request while they are looked up.
struct Naming<'a> {
    caller: &'a CallerIdentity,
    /// The caller may name sets at all.
    may: bool,
    sets: Vec<Arc<OverrideSet>>,
}

impl Gate {
    /// The gate of a listener.
    pub fn new(server: &ServerParams, router: &RouterParams, label: &str) -> Gate {
        let sets = router.override_sets.list.iter().map(|set| (set.name.clone(), set.clone()));
        Gate {
            params: server.overrides.clone(),
            clear: server.clear_context,
            trust_forwarded: server.trust_forwarded,
            sets: sets.collect(),
            baggage_key: router.override_sets.baggage_key.clone(),
            label: label.to_owned(),
            lines: LogLimit::default(),
        }
    }

    /// The key of our member of `baggage`.
    pub fn baggage_key(&self) -> &str {
        &self.baggage_key
    }

    /// Whether a caller's context counts, and whether it is told details (requirements §5, rule 4).
    pub fn trusts(&self, caller: &CallerIdentity) -> bool {
        match self.params.mode {
            _ if self.clear => false,
            OverrideMode::Off => false,
            OverrideMode::Policy => self.rule(caller).is_some(),
            OverrideMode::Named | OverrideMode::Legacy => true,
        }
    }

    /// The first rule that covers the caller and has not expired.
    fn rule(&self, caller: &CallerIdentity) -> Option<(usize, Arc<OverrideRule>)> {
        let covers = |rule: &OverrideRule| {
            let from = rule.from.is_empty() || rule.from.iter().any(|range| range.contains(caller.ip));
            from && rule.expires.is_none_or(|end| clock::wall() < end)
        };
        self.params.rules.iter().enumerate().find(|(_, rule)| covers(rule)).map(|(i, rule)| (i, rule.clone()))
    }

    /// Takes overrides and context out of a request's headers. Errors with 403 for what is denied at once.
    pub fn admit(&self, headers: &mut HeaderMap, seen: &Seen, caller: &CallerIdentity) -> Result<Admitted, RouteError> {
        let trusted = self.trusts(caller);
        if (seen.forwarded || seen.via) && !self.trust_forwarded.unwrap_or(trusted || !self.params.stated) {
            headers::drop_forwarded(headers, seen);
        }
        if !(seen.overrides || seen.named || seen.baggage || seen.finagle) {
            let context = Context::take(headers, seen, !trusted);
            return Ok(Admitted { context, ..Admitted::default() });
        }
        self.admit_override(headers, *seen, caller, trusted)
    }

    fn admit_override(
        &self,
        headers: &mut HeaderMap,
        mut seen: Seen,
        caller: &CallerIdentity,
        trusted: bool,
    ) -> Result<Admitted, RouteError> {
        let is_policy = self.params.mode == OverrideMode::Policy;
        let rule = if is_policy { self.rule(caller) } else { None };
        if self.params.dtab_local && !self.hides() {
            seen.overrides |= as_context(headers);
        }
        if is_policy && seen.overrides && !self.clear {
            self.check_raw(headers, rule.as_ref().map(|(_, rule)| &**rule), caller)?;
        }
        let mut naming = Naming { caller, may: !is_policy || rule.is_some(), sets: Vec::new() };
        let mut hidden = (seen.overrides || seen.named) && self.hides();
        if seen.baggage {
            hidden |= self.take_baggage(headers, &mut naming)?;
        }
        let mut carried = String::new();
        if seen.named && !self.hides() && self.reads_sets() {
            carried = self.take_names(headers, &mut naming)?;
        }
        if self.params.stated && !trusted {
            headers::drop_finagle(headers);
        }
        if hidden {
            ignored("off");
        }
        let mut context = Context::take(headers, &seen, !trusted);
        if self.params.mode == OverrideMode::Named && !context.raw_override.is_empty() {
            context.raw_override.clear();
            ignored("raw");
        }
        Ok(Admitted { context, sets: Sets::new(naming.sets), carried, rule })
    }

    /// True when nobody's headers of ours count here.
    fn hides(&self) -> bool {
        self.clear || self.params.mode == OverrideMode::Off
    }

    /// Without sets, `legacy` leaves alone what Linkerd 1 did not know.
    fn reads_sets(&self) -> bool {
        match self.params.mode {
            OverrideMode::Off => false,
            OverrideMode::Legacy => !self.sets.is_empty(),
            OverrideMode::Named | OverrideMode::Policy => true,
        }
    }

    /// Tables in headers, under a policy.
    fn check_raw(
        &self,
        headers: &HeaderMap,
        rule: Option<&OverrideRule>,
        caller: &CallerIdentity,
    ) -> Result<(), RouteError> {
        let lines = headers.get_all(&CTX_DTAB).iter().chain(headers.get_all(&DTAB));
        let bytes: usize = lines.map(http::HeaderValue::len).sum();
        let (reason, text) = match rule {
            _ if bytes == 0 => return Ok(()),
            None => ("caller", "no rule of this listener is for this caller".to_owned()),
            Some(rule) if !rule.raw => ("raw", "only sets may be named here, tables are not allowed".to_owned()),
            Some(rule) if bytes > rule.max_bytes => {
                ("size", format!("its tables have {bytes} bytes, and {} are allowed", rule.max_bytes))
            }
            Some(_) => return Ok(()),
        };
        Err(self.deny(caller, &Denial { reason, text, dst: None, leaf: None }))
    }

    /// The sets that `baggage` names. What does not count is removed, so that no router further in, which trusts this
    /// one, takes it for good. True when it named some where nobody may.
    fn take_baggage(&self, headers: &mut HeaderMap, naming: &mut Naming<'_>) -> Result<bool, RouteError> {
        let off = self.params.mode == OverrideMode::Off;
        if !off && !self.reads_sets() {
            return Ok(false);
        }
        let found = baggage::find(headers, &self.baggage_key);
        if found.values.is_empty() {
            return Ok(false);
        }
        if off {
            baggage::remove(headers, &self.baggage_key, |_| true);
            return Ok(true);
        }
        let mut goes = vec![false; found.values.len()];
        for (name, goes) in found.values.iter().zip(&mut goes) {
            *goes = !self.look_up(name, found.too_large, naming)?;
        }
        if goes.contains(&true) {
            baggage::remove(headers, &self.baggage_key, |number| goes[number]);
        }
        Ok(false)
    }

    /// The sets that our headers name, and the names that count.
    fn take_names(&self, headers: &mut HeaderMap, naming: &mut Naming<'_>) -> Result<String, RouteError> {
        let mut carried: Vec<String> = Vec::new();
        for header in [CTX_OVERRIDE, OVERRIDE] {
            let lines: Vec<_> = headers.get_all(&header).iter().cloned().collect();
            headers.remove(&header);
            let names = lines.iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
            for name in names.map(<[u8]>::trim_ascii).filter(|name| !name.is_empty()) {
                if self.look_up(name, false, naming)? {
                    let name = String::from_utf8_lossy(name).into_owned();
                    if !carried.contains(&name) {
                        carried.push(name);
                    }
                }
            }
        }
        Ok(carried.join(", "))
    }

    /// Adds the set of this name, unless it is there. False when it does not count; an error where that is refused.
    fn look_up(&self, name: &[u8], too_large: bool, naming: &mut Naming<'_>) -> Result<bool, RouteError> {
        let outcome = if too_large { Err(NoSet::TooLarge) } else { self.set(name, naming) };
        match outcome {
            Ok(set) => {
                if !naming.sets.contains(&set) {
                    naming.sets.push(set);
                }
                Ok(true)
            }
            Err(why) if self.params.strict => {
                let denial = Denial { reason: why.label(), text: why.text(name), dst: None, leaf: None };
                Err(self.deny(naming.caller, &denial))
            }
            Err(why) => {
                tracing::debug!(listener = self.label, caller = %naming.caller, "override ignored: {}", why.text(name));
                ignored(why.label());
                Ok(false)
            }
        }
    }

    fn set(&self, name: &[u8], naming: &Naming<'_>) -> Result<Arc<OverrideSet>, NoSet> {
        let known = std::str::from_utf8(name).ok().and_then(|name| self.sets.get(name));
        let set = known.ok_or(NoSet::Unknown)?;
        let callers = &set.callers;
        let may = naming.may && (callers.is_empty() || callers.iter().any(|range| range.contains(naming.caller.ip)));
        if !may {
            return Err(NoSet::Forbidden);
        }
        if set.expires.is_some_and(|end| clock::wall() >= end) {
            return Err(NoSet::Expired);
        }
        Ok(set.clone())
    }

    /// What a policy says of the entries of an override, once they are known.
    pub fn check_table(&self, caller: &CallerIdentity, admitted: &Admitted, dst: &Dst) -> Result<(), RouteError> {
        let Some((_, rule)) = admitted.rule.as_ref().filter(|_| !dst.is_base()) else { return Ok(()) };
        let denial = |reason, text| Err(self.deny(caller, &Denial { reason, text, dst: Some(dst), leaf: None }));
        let count = dst.override_len();
        if count > rule.max_dentries {
            let text = format!("it has {count} entries, and {} are allowed", rule.max_dentries);
            return denial("size", text);
        }
        let mut prefixes = dst.override_layers().flat_map(dtab::Dtab::dentries).map(|dentry| &dentry.prefix);
        match prefixes.find(|prefix| !rule.allows_prefix(prefix)) {
            Some(prefix) => denial("prefix", format!("entries for {prefix} are not allowed here")),
            None => Ok(()),
        }
    }

    /// What can be said of a leaf before an address of it is known: the destinations of the policy (attack O12), and
    /// hosts that are denied as they are written.
    pub fn check_leaf(
        &self,
        caller: &CallerIdentity,
        rule: Option<&OverrideRule>,
        dst: &Dst,
        (id, choice): (&Path, Choice),
    ) -> Result<(), RouteError> {
        let denied = match choice {
            Choice::Operator => return Ok(()),
            Choice::Override => None,
            Choice::OverrideHost { denied } => denied,
        };
        let allows = |rule: &OverrideRule| rule.allows_destination(&concrete(id));
        let (reason, text) = match denied {
            Some(reason) => (reason, format!("{id} is a {reason} address, which no request may name")),
            None if rule.is_none_or(allows) => return Ok(()),
            None => ("destination", format!("it leads to {id}, which is not among the destinations of this listener")),
        };
        Err(self.deny(caller, &Denial { reason, text, dst: Some(dst), leaf: Some(id) }))
    }

    /// Whether the address that is about to be used is one that a request may choose (requirements §5, rule 2).
    /// `reserved` are addresses where this process listens.
    pub fn check_address(
        &self,
        caller: &CallerIdentity,
        dst: &Dst,
        (id, choice): (&Path, Choice),
        address: SocketAddr,
        reserved: impl FnOnce(SocketAddr) -> bool,
    ) -> Result<(), RouteError> {
        if !matches!(choice, Choice::OverrideHost { .. }) {
            return Ok(());
        }
        let (reason, text) = match address::denied(address.ip()) {
            Some(reason) => (reason, format!("{id} has the {reason} address {address}, which no request may name")),
            None if reserved(address) => {
                ("own-port", format!("{id} has the address {address}, which is this router's"))
            }
            None => return Ok(()),
        };
        Err(self.deny(caller, &Denial { reason, text, dst: Some(dst), leaf: Some(id) }))
    }

    fn deny(&self, caller: &CallerIdentity, denial: &Denial<'_>) -> RouteError {
        denial.settle(&self.label, caller, &self.lines)
    }
}

/// Makes `dtab-local` lines to the last of the context's; true when there were any.
fn as_context(headers: &mut HeaderMap) -> bool {
    let lines: Vec<_> = headers.get_all(&DTAB_LOCAL).iter().cloned().collect();
    headers.remove(&DTAB_LOCAL);
    lines.iter().for_each(|line| _ = headers.append(&CTX_DTAB, line.clone()));
    !lines.is_empty()
}

/// Counts an override, or a part of one, that is treated as if it were not there.
fn ignored(reason: &'static str) {
    metrics::counter!("override_ignored_total", "reason" => reason).increment(1);
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
