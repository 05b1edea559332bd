//! [`Session`]: the one session with ZooKeeper of a store, begun again when it is over.
//!
//! A session outlives its connections: the library reconnects, and sets the watches again, until the ensemble lets the
//! session expire. Then the next operation begins another. Called by [`super`]. Not for: what is asked.

use super::super::StoreError;
use super::ZkParams;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use zookeeper_client::{Acl, Acls, Client, CreateMode, CreateOptions, Error, SessionState};

/// One operation may take so long, the beginning of a session included.
const OPERATION: Duration = Duration::from_secs(5);
/// Before a second try, when no server would begin a session: one that is slow or starts may do so then.
const PAUSE: Duration = Duration::from_millis(200);
/// Operations at once; others wait.
const AT_ONCE: usize = 100;

pub(super) struct Session {
    params: ZkParams,
    acls: Vec<Acl>,
    place: String,
    /// Held while a session begins, so that only one does.
    beginning: tokio::sync::Mutex<()>,
    current: Mutex<Option<Client>>,
    places: Semaphore,
}

impl Session {
    pub(super) fn new(params: &ZkParams, acls: Vec<Acl>) -> Session {
        let place = format!("ZooKeeper at {}, znodes below {}", hosts(params), params.path_prefix);
        Session {
            params: params.clone(),
            acls,
            place,
            beginning: tokio::sync::Mutex::default(),
            current: Mutex::default(),
            places: Semaphore::new(AT_ONCE),
        }
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// For the admin page.
    pub(super) fn state(&self) -> &'static str {
        match self.current.lock().as_ref().map(Client::state) {
            None => "none",
            Some(SessionState::Disconnected) => "disconnected",
            Some(SessionState::SyncConnected | SessionState::ConnectedReadOnly) => "connected",
            Some(SessionState::AuthFailed) => "credentials refused",
            Some(SessionState::Expired) => "expired",
            Some(_) => "closed",
        }
    }

    pub(super) fn unavailable(&self, why: &str) -> StoreError {
        StoreError::Unavailable(format!("{}: {why}", self.place))
    }

    /// Persistent znodes with the rights of the config.
    pub(super) fn persistent(&self) -> CreateOptions<'_> {
        let acls = if self.acls.is_empty() { Acls::anyone_all() } else { Acls::new(&self.acls) };
        CreateMode::Persistent.with_acls(acls)
    }

    /// Runs an operation, bounded in time.
    pub(super) async fn run<T>(
        &self,
        operation: impl AsyncFnOnce(Client) -> Result<T, Error>,
    ) -> Result<T, StoreError> {
        let work = async {
            let _place = self.places.acquire().await;
            operation(self.client().await?).await
        };
        match timeout(OPERATION, work).await {
            Ok(outcome) => outcome.map_err(|error| {
                self.give_up(&error);
                self.explain(&error)
            }),
            Err(_) => Err(self.unavailable(&format!("no answer within {OPERATION:?} (session: {})", self.state()))),
        }
    }

    fn explain(&self, error: &Error) -> StoreError {
        match error {
            Error::NoAuth | Error::AuthFailed | Error::InvalidAcl | Error::QuotaExceeded | Error::NotReadOnly => {
                StoreError::Forbidden(format!("{}: {error}", self.place))
            }
            _ => self.unavailable(&error.to_string()),
        }
    }

    /// Lets a session go that cannot be used any more, also when it does not know.
    fn give_up(&self, error: &Error) {
        use Error::{AuthFailed, ClientClosed, RuntimeInconsistent, SessionExpired, UnexpectedError, UnmarshalError};
        if matches!(
            error,
            AuthFailed
                | ClientClosed
                | RuntimeInconsistent
                | SessionExpired
                | UnexpectedError(_)
                | UnmarshalError { .. }
        ) {
            *self.current.lock() = None;
        }
    }

    fn live(&self) -> Option<Client> {
        self.current.lock().clone().filter(|client| !client.state().is_terminated())
    }

    async fn client(&self) -> Result<Client, Error> {
        if let Some(client) = self.live() {
            return Ok(client);
        }
        let _beginning = self.beginning.lock().await;
        if let Some(client) = self.live() {
            return Ok(client);
        }
        let client = match self.begin().await {
            Err(Error::NoHosts | Error::Timeout | Error::ConnectionLoss) => {
                tokio::time::sleep(PAUSE).await;
                self.begin().await
            }
            begun => begun,
        }?;
        *self.current.lock() = Some(client.clone());
        Ok(client)
    }

    /// Asks every server once for a session.
    async fn begin(&self) -> Result<Client, Error> {
        let mut connector = Client::connector().with_session_timeout(self.params.session_timeout).with_fail_eagerly();
        if let Some(auth) = &self.params.auth {
            connector = connector.with_auth(&auth.scheme, auth.auth.as_bytes());
        }
        connector.connect(&hosts(&self.params)).await
    }

    /// Waits until the session is interrupted or over; says which.
    pub(super) async fn interrupted(&self) -> String {
        let Some(client) = self.live() else { return "the session is over".to_owned() };
        let mut states = client.state_watcher();
        // A handle less, so that the session ends with its store.
        drop(client);
        let mut state = states.peek_state();
        while state == SessionState::SyncConnected {
            state = states.changed().await;
        }
        format!("the session is interrupted: {state:?}")
    }
}

fn hosts(params: &ZkParams) -> String {
    let show = |(host, port): &(String, u16)| match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    params.addresses.iter().map(show).collect::<Vec<_>>().join(",")
}
