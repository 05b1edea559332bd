//! Configuration: the text of a file to a tree, walked by readers that apply defaults and note every problem.
//!
//! Two layers. `tree` gives the file as written, each value with its place. The readers of the objects walk it, apply the
//! defaults and note every problem with its place. Each object has one file and its keys stand in it in one place. What
//! Linkerd 1 has and this release has not is refused with a message that says so: nothing is ignored silently.
//! Facts: config reference; sections are named at each item. Here are the reader and the objects that `linkerd.yaml` and
//! `namerd.yaml` share; the others live with their servers.

pub mod admin;
pub mod discovery;
pub mod json;
pub mod kinds;
pub mod moved;
pub mod namer;
pub mod params;
pub mod probe;
pub mod problem;
pub mod reader;
pub mod scalar;
pub mod socket;
pub mod source;
pub mod telemetry;
pub mod tls;
pub mod transformer;
pub mod tree;

use problem::Problems;
use reader::{Bad, Context, Item};
use source::{Pos, Source};
use tree::{Node, Value};

/// Longest text of a configuration file in bytes.
pub const MAX_TEXT_BYTES: usize = 8 * 1024 * 1024;

/// What a file says.
#[derive(Debug)]
pub struct Read<C> {
    /// What the readers made of it.
    pub config: C,
    /// What works but is probably not meant, each with place and key path.
    pub warnings: Vec<String>,
    /// The file as written, secrets redacted, for `/config.json`.
    pub as_json: serde_json::Value,
}

/// Reads the text of a configuration file, YAML or JSON. `file_name` appears in problems and warnings only; `needs` is the
/// key that an empty file is told to have. Of several YAML documents only the first counts (config reference §2.1). `top`
/// walks the tree.
pub fn read<C: Default>(
    file_name: &str,
    text: &str,
    needs: &str,
    top: impl for<'a> FnOnce(&'a Context<'a>, Item<'a>, &mut C),
) -> Result<Read<C>, Problems> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let sized = if text.len() > MAX_TEXT_BYTES { "" } else { text };
    let source = Source::new(sized);
    let context = Context::new(file_name, &source);
    if sized.len() < text.len() {
        let message = format!("the file has {} bytes, more than {MAX_TEXT_BYTES}", text.len());
        context.bad(Pos::START, "", Bad::new(message));
    }
    let root = match tree::parse(sized, &source) {
        Ok((root, more)) => {
            if more {
                context.warn(&Item::root(&root), "the file has several YAML documents; only the first one counts");
            }
            root
        }
        Err(broken) => {
            context.bad(broken.pos, "", Bad::new(broken.message));
            Node::default()
        }
    };
    let mut config = C::default();
    if !context.is_clean() {
        // There is no tree to walk.
    } else if let Value::Null = root.value {
        context.bad(
            root.pos,
            "",
            Bad::new("the file has no content").expected(format!("a map with the key `{needs}`")),
        );
    } else {
        let item = Item::root(&root);
        reader::duplicates(&context, &item);
        top(&context, item, &mut config);
    }
    Ok(Read { config, warnings: context.end()?, as_json: json::json(&root) })
}
