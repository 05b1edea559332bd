//! Parameters that depend on a name: `client` (per concrete name) and `service` (per logical name).
//!
//! For: the router, which calls [`Sections::for_name`] once when it builds a client or a path. Not for: reading them
//! (see `client` and `service`).

use super::balancer::BalancerParams;
use super::h2::{ClientProtocol, H2Params, H2Settings};
use super::scalar::limit;
use super::tls::{PeerTls, TlsSetting};
use balance::{AccrualConfig, Backoff};
use dtab::{Captures, Path, Pattern};
use setup::config::params::SocketParams;
use std::time::Duration;

/// A set of settings that lies over defaults: what is `None` leaves the parameter as it was.
pub trait Settings {
    /// The parameters it results in; `Default` are those of Linkerd's http routers.
    type Params: Default + Clone;

    /// Overrides what is set here; `captures` are the variables of the pattern that the settings are for.
    fn apply(&self, params: &mut Self::Params, captures: &Captures);
}

/// Settings with the names they are for (config reference §4.3, §8.1). `io.l5d.global` is one section without a
/// pattern; of `io.l5d.static` all matching sections apply in file order, so the later wins.
#[derive(Debug, Clone)]
pub struct Sections<T: Settings> {
    /// In file order. Default none.
    pub list: Vec<(Option<Pattern>, T)>,
    /// What holds where no section says otherwise.
    pub base: T::Params,
}

impl<T: Settings> Default for Sections<T> {
    fn default() -> Sections<T> {
        Sections { list: Vec::new(), base: T::Params::default() }
    }
}

impl<T: Settings> Sections<T> {
    /// The parameters for a name. A pattern with a `*` beyond the end of the name does not match (Linkerd fails the
    /// request there).
    pub fn for_name(&self, name: &Path) -> T::Params {
        let mut params = self.base.clone();
        for (pattern, settings) in &self.list {
            let captures = match pattern {
                None => Some(Captures::default()),
                Some(pattern) => pattern.match_path(name).ok().flatten(),
            };
            if let Some(captures) = captures {
                settings.apply(&mut params, &captures);
            }
        }
        params
    }
}

/// What one section of `client` sets (config reference §8.1).
#[derive(Debug, Clone, Default)]
pub struct ClientSettings {
    /// `loadBalancer`, as a whole.
    pub balancer: Option<BalancerParams>,
    /// `failureAccrual`, as a whole.
    pub accrual: Option<AccrualConfig>,
    /// `failFast`.
    pub fail_fast: Option<bool>,
    /// `requeueBudget`, as a whole.
    pub requeue_budget: Option<BudgetParams>,
    /// `requestAttemptTimeoutMs`; zero is no limit.
    pub attempt_timeout: Option<Duration>,
    /// `connectTimeoutMs`.
    pub connect_timeout: Option<Duration>,
    /// `hostConnectionPool`, as a whole.
    pub pool: Option<PoolSettings>,
    /// `clientSession`, as a whole.
    pub session: Option<SessionSettings>,
    /// `socketOptions`, as a whole.
    pub socket: Option<SocketParams>,
    /// `tls`, as a whole.
    pub tls: Option<TlsSetting>,
    /// `forwardClientCert`.
    pub forward_client_cert: Option<bool>,
    /// `egress`.
    pub egress: Option<bool>,
    /// `protocol`.
    pub protocol: Option<ClientProtocol>,
    /// The settings of HTTP/2, each by itself.
    pub h2: H2Settings,
}

/// `hostConnectionPool` (config reference §8.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolSettings {
    /// `idleTimeMs`.
    pub idle: Option<Duration>,
    /// `minSize`.
    pub min: Option<usize>,
    /// `maxSize`, at least 1.
    pub max: Option<usize>,
    /// `maxWaiters`.
    pub max_waiters: Option<usize>,
}

/// `clientSession` and `serverSession` (config reference §4.2, §8.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionSettings {
    /// `idleTimeMs`, more than zero.
    pub idle: Option<Duration>,
    /// `lifeTimeMs`, more than zero.
    pub life: Option<Duration>,
}

/// The parameters of a client, that is of one concrete name (config reference §8).
#[derive(Debug, Clone, PartialEq)]
pub struct ClientParams {
    /// Load balancer. Default p2c with 5 picks.
    pub balancer: BalancerParams,
    /// Failure accrual. Default 5 consecutive failures.
    pub accrual: AccrualConfig,
    /// Take an address out after one refused connection. Default false.
    pub fail_fast: bool,
    /// Budget for sending again what was provably not sent.
    pub requeue_budget: BudgetParams,
    /// Limit for one attempt, to the response head. Default none.
    pub attempt_timeout: Option<Duration>,
    /// Limit for making one connection. Default 1 s.
    pub connect_timeout: Duration,
    /// An unused connection of the pool is closed after this. Default 30 s (Linkerd: never).
    pub pool_idle: Duration,
    /// So many connections per address stay open however long they are unused. Default 0.
    pub pool_min: usize,
    /// Most connections per address, over all workers. Default unlimited.
    pub pool_max: Option<usize>,
    /// Most requests per address that wait for one of them. Default unlimited.
    pub pool_max_waiters: Option<usize>,
    /// A connection idle for so long is closed. Default never.
    pub session_idle: Option<Duration>,
    /// A connection of that age is closed. Default never.
    pub session_life: Option<Duration>,
    /// Options of the connections' sockets.
    pub socket: SocketParams,
    /// TLS. Default plain text.
    pub tls: Option<PeerTls>,
    /// Tell the endpoints of the caller's certificate in `x-forwarded-client-cert`. Default false.
    pub forward_client_cert: bool,
    /// The service is somebody else's: nothing of ours goes there, no override, no context. Default false.
    pub egress: bool,
    /// What is spoken to the addresses. Default: the router's protocol.
    pub protocol: ClientProtocol,
    /// The settings of HTTP/2 connections.
    pub h2: H2Params,
}

/// Linkerd keeps idle connections for ever; ours end before the usual keep-alive limit of a server.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// Fixed in Linkerd (data-plane reference §12).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Linkerd stops at the budget only, so one failing request can spend all of it.
const MAX_ATTEMPTS: u32 = 10;

impl Default for ClientParams {
    fn default() -> ClientParams {
        ClientParams {
            balancer: BalancerParams::default(),
            accrual: AccrualConfig::default(),
            fail_fast: false,
            requeue_budget: BudgetParams::default(),
            attempt_timeout: None,
            connect_timeout: CONNECT_TIMEOUT,
            pool_idle: POOL_IDLE,
            pool_min: 0,
            pool_max: None,
            pool_max_waiters: None,
            session_idle: None,
            session_life: None,
            socket: SocketParams::default(),
            tls: None,
            forward_client_cert: false,
            egress: false,
            protocol: ClientProtocol::default(),
            h2: H2Params::CLIENT,
        }
    }
}

impl Settings for ClientSettings {
    type Params = ClientParams;

    fn apply(&self, params: &mut ClientParams, captures: &Captures) {
        set(&mut params.balancer, self.balancer);
        set(&mut params.accrual, self.accrual);
        set(&mut params.fail_fast, self.fail_fast);
        set(&mut params.requeue_budget, self.requeue_budget);
        set(&mut params.attempt_timeout, self.attempt_timeout.map(limit));
        set(&mut params.connect_timeout, self.connect_timeout);
        if let Some(pool) = self.pool {
            params.pool_idle = pool.idle.unwrap_or(POOL_IDLE);
            params.pool_min = pool.min.unwrap_or(0);
            params.pool_max = pool.max;
            params.pool_max_waiters = pool.max_waiters;
        }
        set(&mut params.session_idle, self.session.map(|session| session.idle));
        set(&mut params.session_life, self.session.map(|session| session.life));
        set(&mut params.socket, self.socket);
        set(&mut params.tls, self.tls.as_ref().map(|tls| tls.resolve(captures)));
        set(&mut params.forward_client_cert, self.forward_client_cert);
        set(&mut params.egress, self.egress);
        set(&mut params.protocol, self.protocol);
        self.h2.apply(&mut params.h2);
    }
}

/// What one section of `service` sets (config reference §4.3).
#[derive(Debug, Clone, Default)]
pub struct ServiceSettings {
    /// `totalTimeoutMs`; zero is no limit.
    pub total_timeout: Option<Duration>,
    /// `retries.budget`, as a whole.
    pub retry_budget: Option<BudgetParams>,
    /// `retries.backoff`, as a whole.
    pub backoff: Option<Backoff>,
    /// `retries.maxAttempts`; zero is no limit.
    pub max_attempts: Option<u32>,
    /// `retries.replayBufferKB` in bytes, or `retryBufferSize.requestBytes`.
    pub replay_bytes: Option<usize>,
    /// `classificationTimeoutMs`.
    pub classification_timeout: Option<Duration>,
    /// `responseClassifier`.
    pub classifier: Option<Classifier>,
}

/// The parameters of a path, that is of one logical name (config reference §4.3).
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceParams {
    /// Limit for a request with all its retries, to the response head. Default none.
    pub total_timeout: Option<Duration>,
    /// Budget for retries.
    pub retry_budget: BudgetParams,
    /// Pauses before retries. Default none: constant 0.
    pub backoff: Backoff,
    /// Most attempts of one request, the first one included. Default 10 (Linkerd: unlimited).
    pub max_attempts: Option<u32>,
    /// Bytes of a request body that are kept to be sent again. Default `None`: 64 KiB for requeues, and a classifier
    /// retries no body that is chunked or above 5 KiB, as in Linkerd (data-plane reference §11.1). Of h2 routers 16,383.
    pub replay_bytes: Option<usize>,
    /// How long a response is held back for its classification, if the config says it. Default `None` (Linkerd: 100 ms
    /// of h2 routers): no response is held back.
    pub classification_timeout: Option<Duration>,
    /// What is a failure and what may be retried. Default [`Classifier::NonRetryable5xx`].
    pub classifier: Classifier,
}

impl Default for ServiceParams {
    fn default() -> ServiceParams {
        ServiceParams {
            total_timeout: None,
            retry_budget: BudgetParams::default(),
            backoff: Backoff::Constant { ns: 0 },
            max_attempts: Some(MAX_ATTEMPTS),
            replay_bytes: None,
            classification_timeout: None,
            classifier: Classifier::default(),
        }
    }
}

impl Settings for ServiceSettings {
    type Params = ServiceParams;

    fn apply(&self, params: &mut ServiceParams, _: &Captures) {
        set(&mut params.total_timeout, self.total_timeout.map(limit));
        set(&mut params.retry_budget, self.retry_budget);
        set(&mut params.backoff, self.backoff);
        set(&mut params.max_attempts, self.max_attempts.map(|most| (most > 0).then_some(most)));
        set(&mut params.replay_bytes, self.replay_bytes.map(Some));
        set(&mut params.classification_timeout, self.classification_timeout.map(Some));
        set(&mut params.classifier, self.classifier);
    }
}

fn set<T>(param: &mut T, setting: Option<T>) {
    if let Some(setting) = setting {
        *param = setting;
    }
}

/// A budget of retries or requeues (config reference §7.3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetParams {
    /// How long a deposit counts, 1 s to 60 s. Default 10 s.
    pub ttl: Duration,
    /// Retries per second beyond the share. Default 10.
    pub min_per_sec: u32,
    /// Retries per request, 0 to 1000: 0.2 is one retry in five requests. Default 0.2.
    pub percent: f64,
}

impl From<BudgetParams> for balance::RetryBudgetConfig {
    fn from(params: BudgetParams) -> balance::RetryBudgetConfig {
        balance::RetryBudgetConfig {
            ttl_secs: params.ttl.as_secs() as u32,
            min_retries_per_sec: params.min_per_sec,
            percent_can_retry: params.percent,
        }
    }
}

impl Default for BudgetParams {
    fn default() -> BudgetParams {
        BudgetParams { ttl: Duration::from_secs(10), min_per_sec: 10, percent: 0.2 }
    }
}

/// Which responses are failures, and which failures may be retried (config reference §7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Classifier {
    /// 5XX is a failure, never retried. The default.
    #[default]
    NonRetryable5xx,
    /// 5XX is a failure; GET, HEAD, OPTIONS and TRACE may be retried.
    RetryableRead5xx,
    /// As before, and PUT and DELETE.
    RetryableIdempotent5xx,
    /// As before, and POST and PATCH.
    RetryableAll5xx,
    /// Every response is a success; nothing is retried.
    AllSuccessful,
    /// By the status of gRPC (config reference §7.2).
    Grpc(GrpcClassifier),
}

/// Which gRPC statuses are successes, and which failures may be retried. Statuses are bits: status 14 is `1 << 14`; those
/// above 31 are failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrpcClassifier {
    /// `successStatusCodes`. Default 0.
    pub success: u32,
    /// What of the rest may be retried.
    pub retry: GrpcRetry,
}

/// Which failed gRPC calls may be retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrpcRetry {
    /// Those with one of these statuses.
    Codes(u32),
    /// Those with any status.
    All,
    /// None.
    None,
    /// Status 14, refused streams, and HTTP 429, 502, 503, 504 without a status.
    Compliant,
}
