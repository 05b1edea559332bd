//! The canonical print of paths, trees and tables (naming reference §1.3, §2.2, §3.1).
//!
//! What is printed parses back to the same value, but for weights: they print with two decimals.

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
        write_tree(f, self, Place::Top)
    }
}

fn write_tree<T: Display>(f: &mut Formatter<'_>, tree: &NameTree<T>, place: Place) -> fmt::Result {
    match tree {
        NameTree::Neg => f.write_char('~'),
        NameTree::Fail => f.write_char('!'),
        NameTree::Empty => f.write_char('$'),
        NameTree::Leaf(value) => value.fmt(f),
        NameTree::Alt(trees) => match trees.as_slice() {
            [] => f.write_char('~'),
            [only] => write_tree(f, only, place),
            many => in_parens(f, place != Place::Top, |f| {
                for (i, tree) in many.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { " | " })?;
                    write_tree(f, tree, Place::InAlt)?;
                }
                Ok(())
            }),
        },
        NameTree::Union(branches) => match branches.as_slice() {
            [] => f.write_char('~'),
            [only] => write_tree(f, &only.tree, place),
            many => in_parens(f, place == Place::InUnion, |f| {
                for (i, branch) in many.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { " & " })?;
                    if branch.weight != 1.0 {
                        write!(f, "{}*", show_weight(branch.weight))?;
                    }
                    write_tree(f, &branch.tree, Place::InUnion)?;
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
        write_dentries(f, self.dentries().iter())
    }
}

impl Display for DtabStack {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_dentries(f, self.dentries())
    }
}

fn write_dentries<'a>(f: &mut Formatter<'_>, dentries: impl Iterator<Item = &'a Dentry>) -> fmt::Result {
    for (i, dentry) in dentries.enumerate() {
        f.write_str(if i == 0 { "" } else { ";" })?;
        dentry.fmt(f)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::show_weight;

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
}
