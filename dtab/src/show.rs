//! The canonical print of paths, trees and tables (naming reference §1.3, §2.2, §3.1).
//!
//! What is printed parses back to the same value, but for weights: they print with two decimals. [`Exact`] prints weights
//! so that they come back as well.

use crate::dtab::{Dentry, Dtab, DtabStack, Element, Prefix};
use crate::parse::is_label_char;
use crate::path::Path;
use crate::tree::NameTree;
use std::fmt::{self, Display, Formatter, Write};

/// One label: as it is when every byte is plain, else every byte as `\xHH`.
pub(crate) fn write_label(f: &mut impl Write, label: &[u8]) -> fmt::Result {
    match std::str::from_utf8(label) {
        Ok(text) if text.chars().all(is_label_char) => f.write_str(text),
        _ => label.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}")),
    }
}

impl Display for Path {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_char('/');
        }
        for label in self.labels() {
            f.write_char('/')?;
            write_label(f, label)?;
        }
        Ok(())
    }
}

impl Display for Prefix {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.elements().is_empty() {
            return f.write_char('/');
        }
        for element in self.elements() {
            f.write_char('/')?;
            match element {
                Element::Wildcard => f.write_char('*')?,
                Element::Label(label) => write_label(f, label)?,
            }
        }
        Ok(())
    }
}

/// Where a tree stands in its parent; decides on parentheses.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Top,
    InAlt,
    InUnion,
}

impl<T: Display> Display for NameTree<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_tree(f, self, Place::Top, show_weight)
    }
}

/// How a weight is printed.
type ShowWeight = fn(f64) -> String;

fn write_tree<T: Display>(f: &mut Formatter<'_>, tree: &NameTree<T>, place: Place, weight: ShowWeight) -> fmt::Result {
    match tree {
        NameTree::Neg => f.write_char('~'),
        NameTree::Fail => f.write_char('!'),
        NameTree::Empty => f.write_char('$'),
        NameTree::Leaf(value) => value.fmt(f),
        NameTree::Alt(trees) => match trees.as_slice() {
            [] => f.write_char('~'),
            [only] => write_tree(f, only, place, weight),
            many => in_parens(f, place != Place::Top, |f| {
                for (i, tree) in many.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { " | " })?;
                    write_tree(f, tree, Place::InAlt, weight)?;
                }
                Ok(())
            }),
        },
        NameTree::Union(branches) => match branches.as_slice() {
            [] => f.write_char('~'),
            [only] => write_tree(f, &only.tree, place, weight),
            many => in_parens(f, place == Place::InUnion, |f| {
                for (i, branch) in many.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { " & " })?;
                    if branch.weight != 1.0 {
                        write!(f, "{}*", weight(branch.weight))?;
                    }
                    write_tree(f, &branch.tree, Place::InUnion, weight)?;
                }
                Ok(())
            }),
        },
    }
}

fn in_parens(
    f: &mut Formatter<'_>,
    parens: bool,
    inner: impl FnOnce(&mut Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    if !parens {
        return inner(f);
    }
    f.write_char('(')?;
    inner(f)?;
    f.write_char(')')
}

/// Two decimals, rounded half-up on the shortest decimal form (naming reference §2.2, Java's `%.2f`).
fn show_weight(weight: f64) -> String {
    let shortest = format!("{weight}");
    let (whole, fraction) = shortest.split_once('.').unwrap_or((&shortest, ""));
    let digit = |i: usize| fraction.as_bytes().get(i).map_or(0, |byte| byte - b'0');
    let mut digits: Vec<u8> = whole.bytes().map(|byte| byte.wrapping_sub(b'0')).collect();
    digits.extend([digit(0), digit(1)]);
    if digit(2) >= 5 {
        round_up(&mut digits);
    }
    let text: String = digits.iter().map(|d| char::from(b'0' + d.min(&9))).collect();
    let (whole, fraction) = text.split_at(text.len() - 2);
    format!("{whole}.{fraction}")
}

/// As [`show_weight`] where that reads back as the same weight, else the shortest decimal that does.
fn show_weight_exactly(weight: f64) -> String {
    let short = show_weight(weight);
    if short.parse() == Ok(weight) { short } else { weight.to_string() }
}

/// Prints a tree, a dentry or a table so that it parses back to the same value, weights included: two decimals where these
/// say all, else as many as are needed. For what is stored and sent as text.
///
/// ```
/// let dtab = dtab::Dtab::parse("/a => 0.125 * /b & 9 * /c").unwrap();
/// assert_eq!(dtab.to_string(), "/a=>0.13*/b & 9.00*/c");
/// assert_eq!(dtab::Exact(&dtab).to_string(), "/a=>0.125*/b & 9.00*/c");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Exact<'a, T>(pub &'a T);

impl<T: Display> Display for Exact<'_, NameTree<T>> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_tree(f, self.0, Place::Top, show_weight_exactly)
    }
}

impl Display for Exact<'_, Dentry> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}=>{}", self.0.prefix, Exact(&self.0.dst))
    }
}

impl Display for Exact<'_, Dtab> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_joined(f, self.0.dentries().iter().map(Exact))
    }
}

/// Adds one to the number whose decimal digits these are.
fn round_up(digits: &mut Vec<u8>) {
    for digit in digits.iter_mut().rev() {
        if *digit < 9 {
            *digit += 1;
            return;
        }
        *digit = 0;
    }
    digits.insert(0, 1);
}

impl Display for Dentry {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}=>{}", self.prefix, self.dst)
    }
}

impl Display for Dtab {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_joined(f, self.dentries().iter())
    }
}

impl Display for DtabStack {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_joined(f, self.dentries())
    }
}

fn write_joined(f: &mut Formatter<'_>, dentries: impl Iterator<Item = impl Display>) -> fmt::Result {
    for (i, dentry) in dentries.enumerate() {
        f.write_str(if i == 0 { "" } else { ";" })?;
        dentry.fmt(f)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Exact, show_weight};
    use crate::Dtab;

    #[test]
    fn weights_round_half_up_on_their_shortest_form() {
        let cases = [
            (0.0, "0.00"),
            (0.004, "0.00"),
            (0.005, "0.01"),
            (0.0049999, "0.00"),
            (0.125, "0.13"),
            (0.5, "0.50"),
            (0.995, "1.00"),
            (1.001, "1.00"),
            (1.005, "1.01"),
            (2.675, "2.68"),
            (9.994, "9.99"),
            (9.995, "10.00"),
            (10.0, "10.00"),
            (99.999, "100.00"),
            (1e15, "1000000000000000.00"),
            (1e22, "10000000000000000000000.00"),
            (1e-300, "0.00"),
        ];
        for (weight, shown) in cases {
            assert_eq!(show_weight(weight), shown, "{weight}");
        }
        assert_eq!(show_weight(f64::MAX).len(), 309 + 3);
    }

    #[test]
    fn the_exact_print_keeps_every_weight_and_says_no_more_than_it_must() {
        let cases = [
            ("/a=>9*/b & 1*/c", "/a=>9.00*/b & /c"),
            ("/a=>0.001*/b & /c", "/a=>0.001*/b & /c"),
            ("/a=>0.005*/b & .25*/c", "/a=>0.005*/b & 0.25*/c"),
            ("/a=>0.1*(0.123456789*/b & /c | /d) & /e", "/a=>0.10*(0.123456789*/b & /c | /d) & /e"),
            ("/a=>0*/b & 1.0000000000000002*/c;/b=>/c", "/a=>0.00*/b & 1.0000000000000002*/c;/b=>/c"),
            ("/a=>10000000000000000000000*/b & /c", "/a=>10000000000000000000000.00*/b & /c"),
        ];
        for (text, shown) in cases {
            let dtab = Dtab::parse(text).unwrap();
            assert_eq!(Exact(&dtab).to_string(), shown);
            assert_eq!(Dtab::parse(shown).unwrap(), dtab, "{shown}");
        }
    }

    #[test]
    fn the_exact_print_of_any_weight_reads_back() {
        for weight in [f64::MAX, f64::MIN_POSITIVE, 5e-324, 0.1 + 0.2, 1.0 / 3.0, 123_456.789] {
            let dtab = Dtab::parse(&format!("/a => {weight} * /b & /c")).unwrap();
            assert_eq!(Dtab::parse(&Exact(&dtab).to_string()).unwrap(), dtab, "{weight}");
        }
    }
}
