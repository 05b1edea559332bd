//! YAML or JSON text to a tree of nodes that know their place and their source text.
//!
//! For: `load`, which walks the tree with the readers of `reader`. Not for: any meaning of keys and values.
//!
//! How places are learnt: the YAML deserializer puts line and column only into errors. So every visitor of a scalar
//! stores what it saw and then fails on purpose; the list or map around it takes the stored scalar, reads the place
//! from the error and goes on with the next element. One pass gives every place, linear in the text.

use super::source::{Pos, Source, narrow};
use serde::de::{Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor};
use std::cell::{Cell, RefCell};
use std::fmt;

/// Maps and lists may nest this deep.
pub const MAX_DEPTH: usize = 64;
/// Scalars, lists and maps of one file, aliases expanded.
pub const MAX_NODES: usize = 1_000_000;
/// Bytes of one key.
const MAX_KEY: usize = 256;
/// Open brackets; beyond it the YAML scanner becomes slow, long before `MAX_DEPTH` could be checked.
const MAX_BRACKETS: usize = 256;
/// `%` directives; the YAML parser compares each with each.
const MAX_DIRECTIVES: usize = 64;

/// A value with its place.
#[derive(Debug, Default)]
pub struct Node {
    /// Where it begins.
    pub pos: Pos,
    /// What it is.
    pub value: Value,
}

/// What a value is.
#[derive(Debug, Default)]
pub enum Value {
    #[default]
    /// Null, or nothing.
    Null,
    /// A scalar as its source text; `quoted` also for block scalars.
    Scalar {
        /// As written.
        text: String,
        /// In quotes, or as a block.
        quoted: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A map in the order of the file.
    Map(Vec<(Key, Node)>),
    /// Stands for any value while the readers are asked which keys they know (see `probe`).
    Probe,
}

/// The key of a map entry with its place.
#[derive(Debug)]
pub struct Key {
    /// As written.
    pub text: String,
    /// Where it begins.
    pub pos: Pos,
}

/// Why there is no tree.
pub struct Broken {
    /// Where.
    pub pos: Pos,
    /// What is wrong.
    pub message: String,
}

/// Reads the first document of the text; the flag says that there are more.
pub fn parse(text: &str, source: &Source<'_>) -> Result<(Node, bool), Broken> {
    precheck(text, source)?;
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let Some(document) = documents.next() else {
        return Err(Broken { pos: Pos::START, message: "the file has no content".to_owned() });
    };
    let build = Build { source, seen: RefCell::default(), fatal: Cell::new(None), nodes: Cell::new(0) };
    let root = document.deserialize_any(Element { build: &build, depth: 0 });
    let node = match root {
        Ok(node) => node,
        Err(error) => {
            let pos = error
                .location()
                .map_or(Pos::START, |at| Pos { line: narrow(at.line()).max(1), column: narrow(at.column()).max(1) });
            match build.seen.take() {
                Some(seen) => build.scalar(seen, pos),
                None => return Err(build.broken(pos, &error.to_string())),
            }
        }
    };
    Ok((node, documents.next().is_some()))
}

/// Refuses what the YAML parser would report without a place or only after a very long time.
fn precheck(text: &str, source: &Source<'_>) -> Result<(), Broken> {
    let broken = |at: usize, message: String| Err(Broken { pos: source.pos(at), message });
    if let Some((at, c)) = text.char_indices().find(|(_, c)| is_forbidden(*c)) {
        return broken(at, format!("control character U+{:04X} is not allowed", u32::from(c)));
    }
    let mut open = 0usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > MAX_BRACKETS {
            return broken(at, too_deep());
        }
    }
    if text.lines().filter(|line| line.starts_with('%')).count() > MAX_DIRECTIVES {
        return broken(0, format!("more than {MAX_DIRECTIVES} YAML directives"));
    }
    Ok(())
}

fn is_forbidden(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{85}')) || matches!(c, '\u{fffe}' | '\u{ffff}')
}

fn too_deep() -> String {
    format!("lists and maps are nested deeper than {MAX_DEPTH} levels")
}

/// A scalar as the YAML parser understood it. Only texts keep their spelling there.
enum Seen {
    Null,
    Typed(String),
    Text(String),
}

struct Build<'b> {
    source: &'b Source<'b>,
    seen: RefCell<Option<Seen>>,
    fatal: Cell<Option<Broken>>,
    nodes: Cell<usize>,
}

impl Build<'_> {
    /// Counts one node against the limit.
    fn count<E: Error>(&self) -> Result<(), E> {
        self.nodes.set(self.nodes.get() + 1);
        match self.nodes.get() > MAX_NODES {
            true => Err(self.refuse(Pos::default(), format!("more than {MAX_NODES} values in one file"))),
            false => Ok(()),
        }
    }

    /// Ends the walk; an unknown place is that of the innermost list or map.
    fn refuse<E: Error>(&self, pos: Pos, message: String) -> E {
        self.fatal.set(Some(Broken { pos, message }));
        E::custom("refused")
    }

    /// The error that carries the place of a scalar.
    fn stop<E: Error>(&self, seen: Seen) -> E {
        self.seen.replace(Some(seen));
        E::custom("here")
    }

    /// The error that ended the walk; `pos` and `error` are what the deserializer says.
    fn broken(&self, pos: Pos, error: &str) -> Broken {
        match self.fatal.take() {
            Some(broken) if broken.pos.is_known() => broken,
            Some(broken) => Broken { pos, ..broken },
            None => {
                let reason = error.split(" at line ").next().unwrap_or(error);
                Broken { pos, message: format!("not valid YAML: {reason}") }
            }
        }
    }

    fn scalar(&self, seen: Seen, pos: Pos) -> Node {
        let value = match seen {
            Seen::Null => Value::Null,
            Seen::Typed(fallback) => Value::Scalar { text: self.token(pos).unwrap_or(fallback), quoted: false },
            Seen::Text(text) => {
                Value::Scalar { text, quoted: self.source.from(pos).starts_with(['"', '\'', '|', '>', '!']) }
            }
        };
        Node { pos, value }
    }

    /// The source text of a plain number or boolean.
    fn token(&self, pos: Pos) -> Option<String> {
        let rest = self.source.from(pos);
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '-' | '.' | '_'));
        let token = rest.get(..end.unwrap_or(rest.len()))?;
        (!token.is_empty()).then(|| token.to_owned())
    }
}

/// The place at the end of the text of an error of the YAML deserializer; its start when there is none.
fn place(error: &str) -> Pos {
    let read = || {
        let (line, column) = error.rsplit_once(" at line ")?.1.split_once(" column ")?;
        Some(Pos { line: line.parse().ok()?, column: column.parse().ok()? })
    };
    read().unwrap_or(Pos::START)
}

#[derive(Clone, Copy)]
struct Element<'b> {
    build: &'b Build<'b>,
    depth: usize,
}

impl<'b> Element<'b> {
    fn inner<E: Error>(self) -> Result<Element<'b>, E> {
        match self.depth >= MAX_DEPTH {
            true => Err(self.build.refuse(Pos::default(), too_deep())),
            false => Ok(Element { build: self.build, depth: self.depth + 1 }),
        }
    }

    fn see<E: Error>(self, seen: Seen) -> Result<Node, E> {
        Err(self.build.stop(seen))
    }

    /// The scalar that a failed element left behind, or the failure itself when it was a real one.
    fn recover<E: Error>(self, error: E) -> Result<Node, E> {
        match self.build.seen.take() {
            Some(seen) => Ok(self.build.scalar(seen, place(&error.to_string()))),
            None => Err(error),
        }
    }
}

impl<'de> serde::de::DeserializeSeed<'de> for Element<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        self.build.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        self.see(Seen::Typed(value.to_string()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        self.see(Seen::Typed(value.to_string()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        self.see(Seen::Typed(value.to_string()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Node, E> {
        self.see(Seen::Typed(value.to_string()))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Node, E> {
        self.see(Seen::Typed(value.to_string()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        self.see(Seen::Typed(value.to_string()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        self.see(Seen::Text(value.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        self.see(Seen::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        self.see(Seen::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let inner = self.inner()?;
        let mut items = Vec::new();
        loop {
            match seq.next_element_seed(inner) {
                Ok(None) => break,
                Ok(Some(node)) => items.push(node),
                Err(error) => items.push(inner.recover(error)?),
            }
        }
        let first = items.first().map_or(Pos::default(), |node: &Node| node.pos);
        Ok(Node { pos: self.build.source.opening(first, &['[', '-']), value: Value::List(items) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let inner = self.inner()?;
        let mut entries = Vec::new();
        while let Some(key) = next_key(inner, &mut map)? {
            let mut node = match map.next_value_seed(inner) {
                Ok(node) => node,
                Err(error) => inner.recover(error)?,
            };
            if !node.pos.is_known() {
                node.pos = key.pos;
            }
            entries.push((key, node));
        }
        let first = entries.first().map_or(Pos::default(), |(key, _): &(Key, Node)| key.pos);
        Ok(Node { pos: self.build.source.opening(first, &['{']), value: Value::Map(entries) })
    }

    /// A `!tag` before a value means nothing.
    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Node, A::Error> {
        let (_, variant) = data.variant::<IgnoredAny>()?;
        variant.newtype_variant_seed(self)
    }
}

/// The next key of a map. A key that is not a scalar, or too long, ends the walk.
fn next_key<'de, A: MapAccess<'de>>(element: Element<'_>, map: &mut A) -> Result<Option<Key>, A::Error> {
    let node = match map.next_key_seed(element) {
        Ok(None) => return Ok(None),
        Ok(Some(node)) => node,
        Err(error) => element.recover(error)?,
    };
    match node.value {
        Value::Scalar { text, .. } if text.len() <= MAX_KEY => Ok(Some(Key { text, pos: node.pos })),
        Value::Scalar { .. } => Err(element.build.refuse(node.pos, format!("a key is longer than {MAX_KEY} bytes"))),
        _ => Err(element.build.refuse(node.pos, "a key is not a text".to_owned())),
    }
}
