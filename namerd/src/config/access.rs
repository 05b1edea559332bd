//! `access`: who may read and write which dtabs. A key of Switchyard; Linkerd 1 has nothing like it.
//!
//! For: `load`. Not for: judging anybody (crate::access).

use crate::access::{AccessParams, IdentityParams, Namespaces, Right, Rule, TokenParams};
use dtab::Prefix;
use setup::config::moved::Place;
use setup::config::problem::quote;
use setup::config::reader::{Bad, Item, Reader};
use setup::config::scalar::string;
use setup::tokens::TokenFile;

/// The policy, if the file has one.
pub(super) fn access(top: &mut Reader<'_>) -> Option<AccessParams> {
    let there = top.item.shape() == "a map" && top.item.entries(top.context).iter().any(|(name, _)| name == "access");
    if there && top.take("access").is_none() {
        let text = "`access` is empty, which would let everybody do everything; write rules, or leave the key out";
        top.refuse("access", text.to_owned());
    }
    let mut reader = top.sub("access", Place::Other)?;
    let anonymous = rules(&mut reader, "anonymous");
    let tokens = reader.list("tokens").into_iter().filter_map(|item| token(&reader, item)).collect();
    let identities = reader.list("identities").into_iter().filter_map(|item| identity(&reader, item)).collect();
    reader.finish();
    Some(AccessParams { anonymous, tokens, identities })
}

fn token<'a>(access: &Reader<'a>, item: Item<'a>) -> Option<TokenParams> {
    let mut reader = Reader::open(access.context, item, Place::Other)?;
    let name = reader.need("name", caller);
    let file = reader.need("tokenFile", token_file);
    let rules = rules(&mut reader, "rules");
    reader.finish();
    Some(TokenParams { name: name?, file: file?, rules })
}

fn identity<'a>(access: &Reader<'a>, item: Item<'a>) -> Option<IdentityParams> {
    let mut reader = Reader::open(access.context, item, Place::Other)?;
    let identity = reader.need("identity", caller);
    let rules = rules(&mut reader, "rules");
    reader.finish();
    Some(IdentityParams { identity: identity?, rules })
}

fn caller(item: &Item<'_>) -> Result<String, Bad> {
    let text = string(item)?;
    match text.is_empty() || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        true => Err(Bad::new(format!("{} is not a name", quote(&text))).expected("visible ASCII characters")),
        false => Ok(text),
    }
}

fn token_file(item: &Item<'_>) -> Result<TokenFile, Bad> {
    let file = TokenFile::new(string(item)?);
    match file.check() {
        Ok(()) => Ok(file),
        Err(text) => Err(Bad::new(text).expected("a file with a token, such as `openssl rand -hex 32` prints")),
    }
}

fn rules(reader: &mut Reader<'_>, key: &'static str) -> Vec<Rule> {
    reader.list(key).into_iter().filter_map(|item| rule(reader, item)).collect()
}

fn rule<'a>(parent: &Reader<'a>, item: Item<'a>) -> Option<Rule> {
    let mut reader = Reader::open(parent.context, item, Place::Other)?;
    let right = reader.need("right", right);
    let namespaces = limit(&mut reader, "namespaces", "[default]", string);
    let prefixes = limit(&mut reader, "prefixes", "[/svc/web]", prefix);
    reader.finish();
    let namespaces = match namespaces? {
        Some(names) if names.iter().all(|name| name != "*") => Namespaces::Named(names),
        _ => Namespaces::All,
    };
    Some(Rule { right: right?, namespaces, prefixes: prefixes? })
}

fn right(item: &Item<'_>) -> Result<Right, Bad> {
    match string(item)?.as_str() {
        "read" => Ok(Right::Read),
        "write" => Ok(Right::Write),
        other => Err(Bad::new(format!("{} is not a right", quote(other))).expected("one of: read, write")),
    }
}

fn prefix(item: &Item<'_>) -> Result<Prefix, Bad> {
    let text = string(item)?;
    dtab::parse_prefix(&text)
        .map_err(|error| Bad::new(format!("{} is not a prefix: {error}", quote(&text))).expected("e.g. /svc/web"))
}

/// What a rule is limited to; Some(None) for no limit, when the key is absent. None when the list cannot be read whole, or is
/// there and empty, as a template may leave it: that must not make the rule wider, and is reported.
fn limit<'a, T>(
    reader: &mut Reader<'a>,
    key: &'static str,
    example: &str,
    read: impl Fn(&Item<'a>) -> Result<T, Bad>,
) -> Option<Option<Vec<T>>> {
    let context = reader.context;
    // Nothing is there when it is only asked which keys are read.
    let there = reader.item.shape() == "a map" && reader.item.entries(context).iter().any(|(name, _)| name == key);
    let list = reader.take(key);
    let items = list.as_ref().map_or_else(Vec::new, |item| item.elements(context));
    if items.is_empty() {
        if there && list.is_none_or(|item| item.shape() == "a list") {
            let text =
                format!("`{key}` is empty; name at least one, e.g. {example}, or leave the key out for all of them");
            reader.refuse(key, text);
        }
        return (!there).then_some(None);
    }
    let values = items.iter().map(|item| read(item).map_err(|bad| context.bad(item.pos, &item.path, bad)).ok());
    // All are read, so that each problem is reported.
    let values: Vec<Option<T>> = values.collect();
    values.into_iter().collect::<Option<Vec<T>>>().map(Some)
}
