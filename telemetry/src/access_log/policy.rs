//! When an access log begins a new file, and what the old one is called (config reference §5.1, `httpAccessLog*`).
//!
//! What it is for: the rules, as functions of the time, without IO. What it is not: opening or renaming (`writer`).
//! Called by: the config reader ([`RollPolicy::parse`]) and `writer`.
//!
//! The rules are those of `com.twitter.logging.FileHandler`: `access.log` that was opened on 2 March becomes
//! `access-20260302.log`. One thing is done better: a name that is taken is not overwritten.

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _, Zoned};

/// When a new file is begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RollPolicy {
    /// Never.
    #[default]
    Never,
    /// With each line that comes in another hour than the file was opened in.
    Hourly,
    /// As `Hourly`, by days.
    Daily,
    /// As `Daily`, on this day of the week: 1 is Sunday, 7 is Saturday.
    Weekly(u8),
    /// Never by itself; somebody else renames the file and sends a signal. As `Never`: every log is reopened then.
    Signal,
    /// Before the line that would make the file larger than so many bytes.
    Size(u64),
}

/// What [`RollPolicy::parse`] accepts.
pub const ROLL_POLICIES: &str =
    "never, hourly, daily, sighup, weekly(1) (Sunday) to weekly(7), or a size such as 100.megabytes";

impl RollPolicy {
    /// Reads a policy as Linkerd 1 writes it, in any case: `daily`, `weekly(1)`, `100.megabytes`. None when it is none.
    pub fn parse(text: &str) -> Option<RollPolicy> {
        let text = text.to_ascii_lowercase();
        match text.as_str() {
            "never" => return Some(RollPolicy::Never),
            "hourly" => return Some(RollPolicy::Hourly),
            "daily" => return Some(RollPolicy::Daily),
            "sighup" => return Some(RollPolicy::Signal),
            _ => {}
        }
        if let Some(day) = text.strip_prefix("weekly(").and_then(|rest| rest.strip_suffix(')')) {
            return day.parse().ok().filter(|day| (1..=7).contains(day)).map(RollPolicy::Weekly);
        }
        let (number, unit) = text.split_once('.')?;
        let units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte", "petabyte", "exabyte"];
        let power = units.iter().position(|known| unit.strip_suffix('s').unwrap_or(unit) == *known)?;
        let bytes = number.parse::<u64>().ok()?.checked_mul(1u64.checked_shl(10 * u32::try_from(power).ok()?)?)?;
        (bytes > 0 && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(RollPolicy::Size(bytes))
    }

    /// When a file that was opened at `opened` is over; none when time does not end it.
    pub(super) fn due(self, opened: &Zoned) -> Option<Timestamp> {
        let midnight = |days: i32| {
            let date = opened.date().checked_add(days.days()).ok()?;
            opened.time_zone().to_zoned(date.at(0, 0, 0, 0)).ok()
        };
        let due = match self {
            RollPolicy::Never | RollPolicy::Signal | RollPolicy::Size(_) => None,
            RollPolicy::Hourly => {
                let hour = Time::new(opened.hour(), 0, 0, 0).ok()?;
                opened.with().time(hour).build().ok()?.checked_add(1.hour()).ok()
            }
            RollPolicy::Daily => midnight(1),
            RollPolicy::Weekly(day) => {
                let wanted = Weekday::from_sunday_one_offset(i8::try_from(day).ok()?).ok()?;
                let days = i32::from(opened.weekday().until(wanted));
                midnight(if days == 0 { 7 } else { days })
            }
        };
        due.map(|due| due.timestamp())
    }

    /// What stands in the name of a file that is over: when it was opened.
    pub(super) fn suffix(self, opened: &Zoned) -> String {
        let format = match self {
            RollPolicy::Never | RollPolicy::Signal => "%Y",
            RollPolicy::Hourly => "%Y%m%d-%H",
            RollPolicy::Daily | RollPolicy::Weekly(_) => "%Y%m%d",
            RollPolicy::Size(_) => "%Y%m%d-%H%M%S",
        };
        opened.strftime(format).to_string()
    }
}

/// A file name before and after the place where the time goes: at its last dot, unless it begins with that.
pub(super) fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(at) if at > 0 => name.split_at(at),
        _ => (name, ""),
    }
}

/// Whether `other` is the name of a file that this module gave to what was once called `name`: only those are removed.
pub(super) fn is_rotated(name: &str, other: &str) -> bool {
    let (prefix, suffix) = split(name);
    let middle = other.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix));
    middle.is_some_and(|middle| {
        let digits = middle.strip_prefix('-').map(|rest| rest.split('-').collect::<Vec<_>>());
        digits.is_some_and(|parts| {
            parts.len() <= 3
                && parts[0].len() == 8
                && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
        })
    })
}

/// The time zone of access logs: that of the process, by `TZ` or `/etc/localtime` as a JVM has it; UTC without either.
pub(super) fn zone() -> TimeZone {
    let zone = TimeZone::system();
    if zone.is_unknown() { TimeZone::UTC } else { zone }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Zoned {
        text.parse().expect("a time")
    }

    #[test]
    fn policies_are_read_as_linkerd_writes_them() {
        for (text, wanted) in [
            ("never", Some(RollPolicy::Never)),
            ("HOURLY", Some(RollPolicy::Hourly)),
            ("Daily", Some(RollPolicy::Daily)),
            ("sighup", Some(RollPolicy::Signal)),
            ("weekly(1)", Some(RollPolicy::Weekly(1))),
            ("Weekly(7)", Some(RollPolicy::Weekly(7))),
            ("weekly(0)", None),
            ("weekly(8)", None),
            ("weekly", None),
            ("5.bytes", Some(RollPolicy::Size(5))),
            ("1.kilobyte", Some(RollPolicy::Size(1024))),
            ("20.Megabytes", Some(RollPolicy::Size(20 << 20))),
            ("1.exabyte", Some(RollPolicy::Size(1 << 60))),
            ("16.exabytes", None),
            ("0.bytes", None),
            ("+1.bytes", None),
            ("-1.bytes", None),
            ("1.5.megabytes", None),
            ("1.parsec", None),
            ("1.megabytess", None),
            ("", None),
        ] {
            assert_eq!(RollPolicy::parse(text), wanted, "{text}");
        }
    }

    #[test]
    fn files_end_with_their_hour_day_or_week() {
        let zone = "[Europe/Berlin]";
        for (policy, opened, due) in [
            (RollPolicy::Hourly, "2026-03-02T10:59:59", Some("2026-03-02T11:00:00")),
            (RollPolicy::Hourly, "2026-03-02T23:00:00", Some("2026-03-03T00:00:00")),
            (RollPolicy::Daily, "2026-03-02T23:59:59", Some("2026-03-03T00:00:00")),
            // The day on which clocks change has 23 hours.
            (RollPolicy::Daily, "2026-03-29T00:30:00", Some("2026-03-30T00:00:00")),
            // 2 March 2026 is a Monday.
            (RollPolicy::Weekly(1), "2026-03-02T10:00:00", Some("2026-03-08T00:00:00")),
            (RollPolicy::Weekly(2), "2026-03-02T10:00:00", Some("2026-03-09T00:00:00")),
            (RollPolicy::Weekly(3), "2026-03-02T10:00:00", Some("2026-03-03T00:00:00")),
            (RollPolicy::Never, "2026-03-02T10:00:00", None),
            (RollPolicy::Signal, "2026-03-02T10:00:00", None),
            (RollPolicy::Size(1), "2026-03-02T10:00:00", None),
        ] {
            let due = due.map(|due| at(&format!("{due}{zone}")).timestamp());
            assert_eq!(policy.due(&at(&format!("{opened}{zone}"))), due, "{policy:?} {opened}");
        }
    }

    #[test]
    fn names_say_when_the_file_was_opened() {
        let opened = at("2026-03-02T09:08:07[Europe/Berlin]");
        for (policy, wanted) in [
            (RollPolicy::Hourly, "20260302-09"),
            (RollPolicy::Daily, "20260302"),
            (RollPolicy::Weekly(1), "20260302"),
            (RollPolicy::Size(1), "20260302-090807"),
            (RollPolicy::Never, "2026"),
        ] {
            assert_eq!(policy.suffix(&opened), wanted);
        }
        assert_eq!(split("access.log"), ("access", ".log"));
        assert_eq!(split("access.http.log"), ("access.http", ".log"));
        assert_eq!((split("access"), split(".access")), (("access", ""), (".access", "")));
    }

    #[test]
    fn only_rotated_files_are_known_as_such() {
        for good in ["access-20260302.log", "access-20260302-09.log", "access-20260302-090807-1.log"] {
            assert!(is_rotated("access.log", good), "{good}");
        }
        for bad in [
            "access.log",
            "access-errors.log",
            "access-.log",
            "access-20260302.log.gz",
            "access-2.log",
            // By its port, say; and a policy that never rolls makes none of these.
            "access-4140.log",
            "access-2026.log",
            "access-20260302-.log",
            "access-20260302-1-2-3.log",
            "other-20260302.log",
        ] {
            assert!(!is_rotated("access.log", bad), "{bad}");
        }
    }
}
