//! Overrides: what a listener lets requests say about their route, and the sets that they may name (requirements §5).
//!
//! For: the readers of servers and routers, and for `crate::overrides`, which acts on the values. All keys here are
//! Switchyard's own; Linkerd 1 has none of them.

use super::moved::Place;
use super::reader::{Bad, Item, Reader};
use super::scalar::{boolean, dtab, path, size, string};
use super::when::moment;
use crate::headers::is_token_byte;
use crate::overrides::Cidr;
use dtab::{Dtab, Element, Path, Prefix};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// The key of our member of `baggage`, unless `baggageKey` says otherwise.
const DEFAULT_KEY: &str = "dtab";
const DEFAULT_DENTRIES: usize = 100;
const DEFAULT_BYTES: usize = 4096;
/// Longest name of a set in bytes.
const MAX_NAME: usize = 64;

/// What a listener does with overrides (requirements §5, rule 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverrideMode {
    /// Removed and ignored; callers are not trusted.
    Off,
    /// Only stored sets, by name.
    Named,
    /// What the rules allow.
    Policy,
    /// As Linkerd 1, but for the absolute denials. The default.
    #[default]
    Legacy,
}

impl OverrideMode {
    /// As it is written.
    pub fn label(self) -> &'static str {
        match self {
            OverrideMode::Off => "off",
            OverrideMode::Named => "named",
            OverrideMode::Policy => "policy",
            OverrideMode::Legacy => "legacy",
        }
    }
}

/// `overrides` of a listener.
#[derive(Debug, Clone, Default)]
pub struct OverrideParams {
    /// The mode.
    pub mode: OverrideMode,
    /// The file says so. Otherwise it is `legacy`, or `off` with `clearContext: true`.
    pub stated: bool,
    /// A set that is unknown, expired or not for the caller refuses the request. Default false: it is as if absent.
    pub strict: bool,
    /// `dtab-local` is read as well. Default false.
    pub dtab_local: bool,
    /// Of `policy`, in file order: the first one that covers the caller decides.
    pub rules: Vec<Arc<OverrideRule>>,
}

/// What a group of callers may do under `policy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverrideRule {
    /// Whom it is for. Empty: everybody.
    pub from: Vec<Cidr>,
    /// Every entry of the override begins with one of these. Empty: any.
    pub prefixes: Vec<Path>,
    /// Every concrete name that the override leads to begins with one of these. Empty: any.
    pub destinations: Vec<Path>,
    /// Most entries, sets included. Default 100.
    pub max_dentries: usize,
    /// Most bytes of tables in headers. Default 4096.
    pub max_bytes: usize,
    /// Tables in headers are allowed; otherwise only sets. Default true.
    pub raw: bool,
    /// When it ends, since the epoch. Default never.
    pub expires: Option<Duration>,
}

impl OverrideRule {
    /// Whether an entry for this prefix is allowed. A `*` where a prefix of the rule has a label is more than the rule
    /// allows.
    pub fn allows_prefix(&self, prefix: &Prefix) -> bool {
        let begins = |allowed: &Path| {
            let same = |(label, element): (&[u8], &Element)| matches!(element, Element::Label(is) if **is == *label);
            prefix.len() >= allowed.len() && allowed.labels().zip(prefix.elements()).all(same)
        };
        self.prefixes.is_empty() || self.prefixes.iter().any(begins)
    }

    /// Whether the override may lead to this concrete name, given without transformers.
    pub fn allows_destination(&self, id: &Path) -> bool {
        self.destinations.is_empty() || self.destinations.iter().any(|allowed| id.starts_with(allowed))
    }
}

/// A stored override that requests name.
#[derive(Debug, Clone)]
pub struct OverrideSet {
    /// Its name: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Its entries.
    pub dtab: Dtab,
    /// When it ends, since the epoch. Default never.
    pub expires: Option<Duration>,
    /// Whom to ask about it; for logs. Default none.
    pub owner: Option<String>,
    /// Who may name it. Empty: everybody.
    pub callers: Vec<Cidr>,
}

impl PartialEq for OverrideSet {
    fn eq(&self, other: &OverrideSet) -> bool {
        self.name == other.name && self.dtab == other.dtab
    }
}

impl Eq for OverrideSet {}

impl Hash for OverrideSet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// The sets of a router and the key that names them in `baggage`.
#[derive(Debug, Clone)]
pub struct OverrideSets {
    /// `overrideSets`, in file order. Default none.
    pub list: Vec<Arc<OverrideSet>>,
    /// `baggageKey`. Default `dtab`.
    pub baggage_key: String,
}

/// `overrides` of a server: a mode, or a map with `mode`.
pub(super) fn overrides(server: &mut Reader<'_>, clear_context: bool) -> OverrideParams {
    let Some(item) = server.take("overrides") else {
        let mode = if clear_context { OverrideMode::Off } else { OverrideMode::Legacy };
        return OverrideParams { mode, ..OverrideParams::default() };
    };
    if server.context.probe.is_some() {
        Reader::open(server.context, item.clone(), Place::Other).map(object);
    }
    let params = match item.shape() {
        "a map" => Reader::open(server.context, item.clone(), Place::Other).map(object),
        _ => server.get("overrides", mode).map(|mode| OverrideParams { mode, ..OverrideParams::default() }),
    };
    let params = OverrideParams { stated: true, ..params.unwrap_or_default() };
    if params.mode == OverrideMode::Policy && params.rules.is_empty() {
        let bad = Bad::new("`policy` without rules").expected("a map: { mode: policy, rules: [...] }");
        server.context.bad(item.pos, &item.path, bad);
    }
    if clear_context && matches!(params.mode, OverrideMode::Policy | OverrideMode::Legacy) {
        let mode = params.mode.label();
        let text =
            format!("`clearContext` removes the headers that `{mode}` would read; only sets in baggage are left");
        server.context.warn(&item, text);
    }
    params
}

/// A mode. `off` is a boolean to many YAML tools, so that one is taken for what was written.
fn mode(item: &Item<'_>) -> Result<OverrideMode, Bad> {
    match string(item)?.as_str() {
        "off" | "false" => Ok(OverrideMode::Off),
        "named" => Ok(OverrideMode::Named),
        "policy" => Ok(OverrideMode::Policy),
        "legacy" => Ok(OverrideMode::Legacy),
        other => {
            let message = format!("{} is not a way to treat overrides", super::problem::quote(other));
            Err(Bad::new(message).expected("off, named, policy or legacy"))
        }
    }
}

fn object(mut reader: Reader<'_>) -> OverrideParams {
    let mode = reader.need("mode", mode).unwrap_or_default();
    let params = OverrideParams {
        mode,
        stated: true,
        strict: reader.get("strict", boolean).unwrap_or(false),
        dtab_local: reader.get("dtabLocal", boolean).unwrap_or(false),
        rules: rules(&mut reader),
    };
    if params.dtab_local && !matches!(mode, OverrideMode::Policy | OverrideMode::Legacy) {
        reader.refuse("dtabLocal", format!("`{}` reads no tables, and `dtab-local` is one", mode.label()));
    }
    if mode != OverrideMode::Policy && reader.take("rules").is_some() {
        reader.refuse("rules", format!("`rules` are for the mode `policy`, and this is `{}`", mode.label()));
    }
    reader.finish();
    params
}

fn rules(reader: &mut Reader<'_>) -> Vec<Arc<OverrideRule>> {
    let items = reader.list("rules");
    let rule = |item| {
        let mut rule = Reader::open(reader.context, item, Place::Other)?;
        let params = OverrideRule {
            from: list(&mut rule, "from", cidr),
            prefixes: list(&mut rule, "prefixes", path),
            destinations: list(&mut rule, "destinations", path),
            max_dentries: rule.get("maxDentries", size(1)).unwrap_or(DEFAULT_DENTRIES),
            max_bytes: rule.get("maxBytes", size(1)).unwrap_or(DEFAULT_BYTES),
            raw: rule.get("raw", boolean).unwrap_or(true),
            expires: rule.get("expires", moment),
        };
        rule.finish();
        Some(Arc::new(params))
    };
    items.into_iter().filter_map(rule).collect()
}

/// `overrideSets` and `baggageKey` of a router.
pub(super) fn sets(router: &mut Reader<'_>) -> OverrideSets {
    let mut known: Vec<Arc<OverrideSet>> = Vec::new();
    for item in router.list("overrideSets") {
        let Some(set) = set(router, item.clone()) else { continue };
        if known.iter().any(|other| other.name == set.name) {
            let message = format!("two sets are called {}", super::problem::quote(&set.name));
            router.context.bad(item.pos, &item.path, Bad::new(message).expected("a `name` of its own for each set"));
        }
        known.push(Arc::new(set));
    }
    let baggage_key = router.get("baggageKey", token).unwrap_or_else(|| DEFAULT_KEY.to_owned());
    OverrideSets { list: known, baggage_key }
}

fn set<'a>(router: &Reader<'a>, item: Item<'a>) -> Option<OverrideSet> {
    let mut reader = Reader::open(router.context, item, Place::Other)?;
    let source = reader.context.source;
    let name = reader.need("name", set_name);
    let dtab = reader.need("dtab", |item| dtab(source, item));
    let expires = reader.get("expires", moment);
    let owner = reader.get("owner", string);
    let callers = list(&mut reader, "callers", cidr);
    reader.finish();
    Some(OverrideSet { name: name?, dtab: dtab?, expires, owner, callers })
}

/// True for names that a set may have.
pub fn is_set_name(name: &[u8]) -> bool {
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    (1..=MAX_NAME).contains(&name.len()) && name.iter().all(legal)
}

fn set_name(item: &Item<'_>) -> Result<String, Bad> {
    let name = string(item)?;
    match is_set_name(name.as_bytes()) {
        true => Ok(name),
        false => {
            let expected = format!("1 to {MAX_NAME} letters, digits, `.`, `_` or `-`");
            Err(Bad::new(format!("{} is not a name of a set", super::problem::quote(&name))).expected(expected))
        }
    }
}

/// A key of `baggage`: a token without the characters that end one.
fn token(item: &Item<'_>) -> Result<String, Bad> {
    let text = string(item)?;
    match !text.is_empty() && text.bytes().all(is_token_byte) {
        true => Ok(text),
        false => Err(Bad::new(format!("{} is not a key of baggage", super::problem::quote(&text)))),
    }
}

fn cidr(item: &Item<'_>) -> Result<Cidr, Bad> {
    Cidr::parse(&string(item)?).map_err(|reason| Bad::new(reason).expected("such as 10.0.0.0/8 or ::1"))
}

/// The elements of a list, each read on its own.
fn list<'a, T>(reader: &mut Reader<'a>, key: &'static str, read: fn(&Item<'a>) -> Result<T, Bad>) -> Vec<T> {
    let mut values = Vec::new();
    let items = reader.list(key);
    if items.is_empty() && reader.take(key).is_some_and(|item| item.shape() == "a list") {
        reader.refuse(key, format!("`{key}` is an empty list; leave it out when it shall not matter"));
    }
    for item in items {
        match read(&item) {
            Ok(value) => values.push(value),
            Err(bad) => reader.context.bad(item.pos, &item.path, bad),
        }
    }
    values
}
