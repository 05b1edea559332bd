//! What `client` and `service` have in common: one global section, or a list of sections with patterns (config
//! reference §4.3, §8.1, §8.2).
//!
//! For: the readers of both. Not for: the keys of a section.

use super::kinds::{Found, SECTIONS};
use super::moved::Place;
use super::reader::Reader;
use super::scalar::pattern;
use super::settings::{Sections, Settings};

/// Reads the object under `key`, each section with `read`, which is told its prefix. Without `kind` it is one global section.
pub(super) fn sections<'a, T: Settings>(
    parent: &mut Reader<'a>,
    key: &'static str,
    place: Place,
    read: impl Fn(&mut Reader<'a>, Option<&dtab::Pattern>) -> T,
) -> Sections<T> {
    let Some(mut reader) = parent.sub(key, place) else { return Sections::default() };
    let kind = match reader.take("kind") {
        None => Found::Built("io.l5d.global"),
        Some(_) => SECTIONS.of(&mut reader),
    };
    let list = match kind {
        Found::Built("io.l5d.static") => configs(&mut reader, place, &read),
        Found::Built(_) => vec![(None, read(&mut reader, None))],
        Found::Refused | Found::Unknown => return Sections::default(),
    };
    reader.finish();
    Sections { list, ..Sections::default() }
}

fn configs<'a, T>(
    reader: &mut Reader<'a>,
    place: Place,
    read: &impl Fn(&mut Reader<'a>, Option<&dtab::Pattern>) -> T,
) -> Vec<(Option<dtab::Pattern>, T)> {
    let Some(list) = reader.take("configs") else {
        reader.missing("configs");
        return Vec::new();
    };
    let mut sections = Vec::new();
    for item in list.elements(reader.context) {
        let Some(mut entry) = Reader::open(reader.context, item, place) else { continue };
        let prefix = entry.need("prefix", pattern);
        let section = read(&mut entry, prefix.as_ref());
        sections.push((prefix, section));
        entry.finish();
    }
    sections
}
