//! Moments in a config: RFC 3339, such as `2027-01-31T18:00:00Z`.
//!
//! For: whatever expires. Not for: durations (`scalar`).

use super::reader::{Bad, Item};
use super::scalar::string;
use std::time::Duration;

/// A moment as the time since the epoch; those before it are the epoch.
pub(super) fn moment(item: &Item<'_>) -> Result<Duration, Bad> {
    let text = string(item)?;
    let bad = || Bad::new(format!("{} is not a moment", super::problem::quote(&text)));
    parse(&text).ok_or_else(|| bad().expected("a date and a time as of RFC 3339, such as 2027-01-31T18:00:00Z"))
}

fn parse(text: &str) -> Option<Duration> {
    let bytes = text.as_bytes();
    let number = |from: usize, length: usize| {
        let digits = bytes.get(from..from + length)?;
        digits.iter().try_fold(0_i64, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0')))
    };
    let is = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|byte| wanted.contains(byte));
    let marks = is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":");
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    let dated = (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    if !marks || !dated || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = fraction(&bytes[19..])?;
    let offset = match rest {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let at = bytes.len() - 5;
            let (hours, minutes) = (number(at, 2)?, number(at + 3, 2)?);
            let seconds = hours * 3600 + minutes * 60;
            match (hours, minutes, *sign) {
                (24.., _, _) | (_, 60.., _) => return None,
                (_, _, b'-') => -seconds,
                _ => seconds,
            }
        }
        _ => return None,
    };
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// What is left after an optional fraction, which is dropped: nothing expires that precisely.
fn fraction(rest: &[u8]) -> Option<&[u8]> {
    let Some(digits) = rest.strip_prefix(b".") else { return Some(rest) };
    let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    (end > 0).then(|| &digits[end..])
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    let years = before * 365 + before / 4 - before / 100 + before / 400;
    let months: i64 = (1..month).map(|month| days_in(year, month)).sum();
    // 719,162 days lie between the beginning of the year 1 and the epoch.
    years + months + day - 1 - 719_162
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2001-09-09T01:46:40Z", 1_000_000_000),
            ("2001-09-09t03:46:40.123+02:00", 1_000_000_000),
            ("2001-09-08 20:16:40-05:30", 1_000_000_000),
            ("2024-02-29T23:59:60Z", 1_709_251_200),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("1900-01-01T00:00:00Z", 0),
        ] {
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn texts_that_are_no_moments() {
        for text in [
            "",
            "2024-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+24:00",
            "2024-01-01T00:00:00+2:00",
            "2024-01-01T00:00:00ZZ",
            "tomorrow",
            "2024-01-01T00:00:0\u{e9}Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
