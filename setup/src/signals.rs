//! Signals that do not end the process: SIGHUP and SIGUSR1 open the access logs anew, for `logrotate` and its like.
//!
//! Started by `cli` beside the wait for the end (`shutdown` has SIGTERM and SIGINT). Not for: anything a signal does not
//! ask for.

use tokio::signal::unix::{SignalKind, signal};

/// Follows the signals from now on, as long as the future runs. Errors when the system does not let it listen.
pub fn follow() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let (mut hangup, mut user) = (signal(SignalKind::hangup())?, signal(SignalKind::user_defined1())?);
    Ok(async move {
        loop {
            let name = tokio::select! {
                _ = hangup.recv() => "SIGHUP",
                _ = user.recv() => "SIGUSR1",
            };
            tracing::info!(signal = name, "opening the access logs anew");
            telemetry::access_log::reopen_all();
        }
    })
}
