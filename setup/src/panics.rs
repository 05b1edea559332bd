//! Panics: counted and logged with their place; what they end is for whoever contains them (attack M2).
//!
//! A connection's task, a watch, an admin page each contain their own. Installed once by `cli`.

use std::panic::PanicHookInfo;

/// Counts panics in `panics_total` and logs them, instead of the message of the standard library.
pub fn install() {
    std::panic::set_hook(Box::new(report));
}

fn report(info: &PanicHookInfo<'_>) {
    metrics::counter!("panics_total").increment(1);
    let said = info.payload();
    let said = said.downcast_ref::<&str>().copied().or(said.downcast_ref::<String>().map(String::as_str));
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    tracing::error!(
        place,
        thread = thread.name().unwrap_or("unnamed"),
        "internal error (panic): {}. Only what was being done ends; please report it",
        said.unwrap_or("no message")
    );
}
