//! `tls` of servers, of the administrative server and of clients (config reference §3.3, §8.5).
//!
//! For: the readers of those objects. The files that are named are read and checked here: an unreadable key is a problem
//! of the config, not of the first connection. Not for: using them (crate `tls`).

use super::moved::Place;
use super::reader::{Bad, Item, Reader};
use super::scalar::{boolean, string};
use dtab::{Captures, Pattern};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;
use tls::{CertificateInfo, ClientAuthParams, ClientTlsParams, Part, ServerTlsParams, TlsError, Trust};

/// Warnings about expiry for one `tls` object, at most; a bundle of authorities may hold many old ones.
const MAX_WARNINGS: usize = 5;

/// `tls` of a section of `client` (config reference §8.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsSetting {
    /// `enabled: false`: plain text, whatever earlier sections say.
    Off,
    /// The name may hold `{variables}` of the section's prefix.
    On(PeerTls),
}

/// TLS towards the endpoints of a client (config reference §8.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerTls {
    /// Files, protocols, trust.
    pub params: Arc<tls::ClientTlsParams>,
    /// `commonName`: what the servers must prove to be. None only with `disableValidation`.
    pub common_name: Option<String>,
}

impl TlsSetting {
    /// The parameters for a name with these captures; None for plain text.
    pub fn resolve(&self, captures: &Captures) -> Option<PeerTls> {
        let TlsSetting::On(PeerTls { params, common_name }) = self else { return None };
        let common_name = common_name.as_ref().map(|name| captures.substitute(name));
        Some(PeerTls { params: params.clone(), common_name })
    }
}

impl TlsSetting {
    /// The parameters as they are written; None for plain text.
    pub fn on(self) -> Option<PeerTls> {
        match self {
            TlsSetting::On(peer) => Some(peer),
            TlsSetting::Off => None,
        }
    }
}

/// `tls` of a listener of a router.
pub fn server_tls(parent: &mut Reader<'_>) -> Option<ServerTlsParams> {
    let mut reader = parent.sub("tls", Place::ServerTls)?;
    let require_sni_match = reader.get("requireSniMatch", boolean).unwrap_or(false);
    let params = listener_tls(reader)?;
    Some(ServerTlsParams { require_sni_match, ..params })
}

/// `tls` of the administrative server.
pub fn admin_tls(parent: &mut Reader<'_>) -> Option<ServerTlsParams> {
    parent.sub("tls", Place::ServerTls).and_then(listener_tls)
}

/// ALPN names HTTP/1, so that who speaks HTTP/2 alone learns it in the handshake.
fn listener_tls(mut reader: Reader<'_>) -> Option<ServerTlsParams> {
    let cert_path = reader.need("certPath", file);
    let key_path = reader.need("keyPath", file);
    let intermediate_certs_path = reader.get("intermediateCertsPath", file);
    let ca_cert_path = reader.get("caCertPath", file);
    let require_client_auth = reader.get("requireClientAuth", boolean).unwrap_or(false);
    let ciphers = texts(&mut reader, "ciphers");
    let protocols = texts(&mut reader, "protocols");
    if ca_cert_path.is_some() && !require_client_auth {
        reader.context.warn(&reader.item, "`caCertPath` has no effect without `requireClientAuth: true`");
    }
    let params = cert_path.zip(key_path).map(|(cert_path, key_path)| ServerTlsParams {
        cert_path,
        key_path,
        intermediate_certs_path,
        ca_cert_path,
        require_client_auth,
        ciphers,
        protocols,
        alpn: vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()],
        require_sni_match: false,
    });
    if let Some(params) = &params {
        let trust = if params.ca_cert_path.is_some() { "caCertPath" } else { "requireClientAuth" };
        judge(&reader, tls::check_server(params), "", trust);
    }
    reader.finish();
    params
}

/// `tls` of a client section, whose `commonName` may use the variables of `prefix`.
pub fn client_tls(parent: &mut Reader<'_>, prefix: Option<&Pattern>) -> Option<TlsSetting> {
    let mut reader = parent.sub("tls", Place::ClientTls)?;
    let enabled = reader.get("enabled", boolean).unwrap_or(true);
    let disable_validation = reader.get("disableValidation", boolean).unwrap_or(false);
    let common_name = reader.get("commonName", string);
    let certs = texts(&mut reader, "trustCerts").into_iter().map(PathBuf::from).collect::<Vec<_>>();
    let bundle = reader.get("trustCertsBundle", file);
    let client_auth = client_auth(&mut reader);
    let params = ClientTlsParams {
        disable_validation,
        trust: match (&bundle, certs.is_empty()) {
            (Some(bundle), _) => Trust::Files(vec![bundle.clone()]),
            (None, false) => Trust::Files(certs.clone()),
            (None, true) => Trust::System,
        },
        client_auth: client_auth.flatten(),
        protocols: texts(&mut reader, "protocols"),
        alpn: Vec::new(),
    };
    if enabled {
        let both = bundle.is_some() && !certs.is_empty();
        check_client(&reader, &params, common_name.as_deref(), (prefix, both));
    }
    reader.finish();
    Some(if enabled { TlsSetting::On(PeerTls { params: Arc::new(params), common_name }) } else { TlsSetting::Off })
}

/// `tls` of the interpreter `io.l5d.namerd`, which has keys of its own (config reference §8.5 b).
pub fn namerd_tls(parent: &mut Reader<'_>) -> Option<PeerTls> {
    let mut reader = parent.sub("tls", Place::Other)?;
    let common_name = reader.need("commonName", string);
    let ca = reader.get("caCert", file);
    let client_auth = client_auth(&mut reader).flatten();
    let params = ClientTlsParams {
        disable_validation: false,
        trust: ca.map_or(Trust::System, |ca| Trust::Files(vec![ca])),
        client_auth,
        protocols: Vec::new(),
        alpn: Vec::new(),
    };
    let at = if params.client_auth.is_some() { "clientAuth" } else { "" };
    judge(&reader, tls::check_client(&params), at, "caCert");
    reader.finish();
    Some(PeerTls { params: Arc::new(params), common_name: Some(common_name?) })
}

/// `clientAuth`; `Some(None)` when it is there and not complete.
fn client_auth(parent: &mut Reader<'_>) -> Option<Option<ClientAuthParams>> {
    let mut reader = parent.sub("clientAuth", Place::Other)?;
    let cert_path = reader.need("certPath", file);
    let key_path = reader.need("keyPath", file);
    let intermediate_certs_path = reader.get("intermediateCertsPath", file);
    reader.finish();
    let paths = cert_path.zip(key_path);
    Some(paths.map(|(cert_path, key_path)| ClientAuthParams { cert_path, intermediate_certs_path, key_path }))
}

fn check_client(
    reader: &Reader<'_>,
    params: &ClientTlsParams,
    name: Option<&str>,
    (prefix, both): (Option<&Pattern>, bool),
) {
    if let Some(name) = name {
        check_variables(reader, name, prefix);
    }
    if params.disable_validation {
        unvalidated(reader, params);
    } else if name.is_none() {
        let text = "tls is configured with validation but `commonName` is not set: write the name that the servers' \
            certificates must have, or, to accept any certificate, `disableValidation: true`";
        reader.refuse("commonName", text.to_owned());
    } else if both {
        let text = "both `trustCerts` and `trustCertsBundle` are set; put all certificates into the bundle";
        reader.refuse("trustCerts", text.to_owned());
    } else {
        let key = if reader.has("trustCerts") { "trustCerts" } else { "trustCertsBundle" };
        judge(reader, tls::check_client(params), "clientAuth", key);
    }
    if reader.has("trustCerts") {
        reader.context.warn(&reader.item, "`trustCerts` is deprecated, as in Linkerd; use `trustCertsBundle`");
    }
}

fn unvalidated(reader: &Reader<'_>, params: &ClientTlsParams) {
    if params.client_auth.is_some() {
        let text = "`disableValidation: true` and `clientAuth` exclude each other, as in Linkerd: who shows a \
            certificate must know to whom";
        return reader.refuse("disableValidation", text.to_owned());
    }
    let text = "`disableValidation: true`: CERTIFICATES ARE NOT CHECKED, anybody in between can read and change the \
        traffic; use `trustCertsBundle` and `commonName`";
    reader.context.warn(&reader.item, text);
    judge(reader, tls::check_client(params), "clientAuth", "trustCertsBundle");
}

/// Every `{variable}` must be one of the section's prefix: otherwise the literal text would be the name.
fn check_variables(reader: &Reader<'_>, name: &str, prefix: Option<&Pattern>) {
    let known: Vec<&str> = prefix.map_or_else(Vec::new, |prefix| prefix.variables().collect());
    for (open, _) in name.match_indices('{') {
        let Some(length) = name[open..].find('}') else { continue };
        let variable = &name[open + 1..open + length];
        if !known.contains(&variable) {
            let has = match (prefix, known.is_empty()) {
                (None, _) => {
                    "there is no legal prefix here: variables need `kind: io.l5d.static` and a `prefix` in the \
                    entry"
                        .to_owned()
                }
                (Some(prefix), true) => format!("the prefix {} has no variables", prefix.text()),
                (Some(prefix), false) => format!("the prefix {} has {}", prefix.text(), known.join(", ")),
            };
            let variable: String = variable.chars().take(40).filter(|c| !c.is_control()).collect();
            return reader.refuse("commonName", format!("`{{{variable}}}` is not a variable of the prefix: {has}"));
        }
    }
}

/// Turns what the files are like into problems and warnings. `own`: the object that holds the paths of our certificate,
/// if that is not the one at hand; `trust`: the key to blame for authorities.
fn judge(reader: &Reader<'_>, outcome: Result<Vec<CertificateInfo>, TlsError>, own: &str, trust: &str) {
    match outcome {
        Ok(infos) => {
            let now = SystemTime::now();
            let warnings = infos.iter().filter_map(|info| info.warning(now)).take(MAX_WARNINGS);
            warnings.for_each(|warning| reader.context.warn(&reader.item, warning));
        }
        Err(error) => {
            let key = match error.part {
                Part::Trust => trust,
                Part::Protocols => "protocols",
                Part::Ciphers => "ciphers",
                _ if !own.is_empty() => own,
                Part::Certificate => "certPath",
                Part::Key => "keyPath",
                Part::Intermediates => "intermediateCertsPath",
            };
            reader.refuse(key, error.text);
        }
    }
}

fn file(item: &Item<'_>) -> Result<PathBuf, Bad> {
    let path = string(item)?;
    if path.is_empty() {
        return Err(Bad::new("the path is empty").expected("the path of a PEM file"));
    }
    Ok(PathBuf::from(path))
}

fn texts(reader: &mut Reader<'_>, key: &'static str) -> Vec<String> {
    let mut texts = Vec::new();
    for item in reader.list(key) {
        match string(&item) {
            Ok(text) => texts.push(text),
            Err(bad) => reader.context.bad(item.pos, &item.path, bad),
        }
    }
    texts
}
