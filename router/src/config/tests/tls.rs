//! `tls` of servers, the administrative server and clients: every key, every contradiction, and the files.

use super::*;
use dtab::Path;
use rcgen::{CertificateParams, KeyPair};
use std::time::SystemTime;

/// A folder with `web.pem`, `web.key`, a key of somebody else, and a certificate that is over.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    let make = |days: i64| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["web.example".to_owned()]).unwrap();
        let offset = Duration::from_secs(days.unsigned_abs() * 86_400);
        params.not_after = if days < 0 { SystemTime::now() - offset } else { SystemTime::now() + offset }.into();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    for (name, days) in [("web", 100), ("old", -3), ("soon", 3)] {
        let (cert, key) = make(days);
        write(&format!("{name}.pem"), cert);
        write(&format!("{name}.key"), key);
    }
    write("empty", String::new());
    folder
}

/// `@` stands for the folder.
fn with(folder: &tempfile::TempDir, text: &str) -> String {
    text.replace('@', &folder.path().display().to_string())
}

fn server(tls: &str) -> String {
    format!("routers:\n- protocol: http\n  servers:\n  - port: 4140\n    tls: {tls}\n")
}

fn client(tls: &str) -> String {
    router(&format!("client: {{tls: {tls}}}"))
}

#[test]
fn a_server_has_all_keys() {
    let folder = folder();
    let all = "{certPath: @/web.pem, keyPath: @/web.key, intermediateCertsPath: @/soon.pem, caCertPath: @/web.pem,
         requireClientAuth: true, requireSniMatch: true, ciphers: [TLS_AES_128_GCM_SHA256, ECDHE-RSA-AES128-GCM-SHA256], protocols: [TLSv1.2]}";
    let config = load("f", &with(&folder, &server(all))).unwrap();
    let tls = config.routers[0].servers[0].tls.as_ref().unwrap();
    assert_eq!(tls.cert_path, folder.path().join("web.pem"));
    assert!(
        tls.require_client_auth
            && tls.require_sni_match
            && tls.ca_cert_path.is_some()
            && tls.intermediate_certs_path.is_some()
    );
    assert_eq!((tls.ciphers.len(), tls.protocols.as_slice()), (2, ["TLSv1.2".to_owned()].as_slice()));
    assert_eq!(config.warnings.len(), 1, "the one that ends soon: {:?}", config.warnings);
    assert!(config.warnings[0].contains("servers[0].tls: ") && config.warnings[0].contains("expires soon, on 20"));
    let admin = with(&folder, "admin: {tls: {certPath: @/web.pem, keyPath: @/web.key}}\n");
    assert!(good(&format!("{admin}{}", router(""))).admin.tls.is_some());
}

#[test]
fn bad_servers() {
    let folder = folder();
    for (tls, part) in [
        ("{keyPath: @/web.key}", "tls.certPath: required key `certPath` is missing"),
        ("{certPath: @/web.pem}", "tls.keyPath: required key `keyPath` is missing"),
        ("{certPath: '', keyPath: @/web.key}", "tls.certPath: the path is empty"),
        ("{certPath: @/none, keyPath: @/web.key}", "tls.certPath: @/none: cannot be read: No such file"),
        (
            "{certPath: @/web.key, keyPath: @/web.key}",
            "tls.certPath: @/web.key: holds a private key and no certificate",
        ),
        ("{certPath: @/web.pem, keyPath: @/old.key}", "tls.keyPath: @/old.key: the key does not belong to the first"),
        (
            "{certPath: @/web.pem, keyPath: @/web.key, intermediateCertsPath: @/empty}",
            "tls.intermediateCertsPath: @/empty: holds no certificate",
        ),
        (
            "{certPath: @/web.pem, keyPath: @/web.key, requireClientAuth: true, caCertPath: @/empty}",
            "tls.caCertPath: @/empty: holds no certificate",
        ),
        ("{certPath: @/web.pem, keyPath: @/web.key, protocols: [TLSv1]}", "tls.protocols: `TLSv1` is obsolete"),
        ("{certPath: @/web.pem, keyPath: @/web.key, ciphers: [RC4]}", "tls.ciphers: `RC4` is not a supported"),
        ("{certPath: @/web.pem, keyPath: @/web.key, enabled: true}", "unknown key `enabled`: TLS is on when `tls` is"),
        ("{certPath: @/web.pem, keyPath: @/web.key, kind: io.l5d.static}", "unknown key `kind`: remove it"),
        ("[]", "a list where a map belongs"),
    ] {
        one(&with(&folder, &server(tls)), &with(&folder, part));
    }
}

#[test]
fn a_client_has_all_keys() {
    let folder = folder();
    let all = "{enabled: true, commonName: web.example, trustCertsBundle: @/web.pem, protocols: [TLSv1.3],
         clientAuth: {certPath: @/web.pem, keyPath: @/web.key, intermediateCertsPath: @/web.pem}}";
    let config = good(&with(&folder, &client(all)));
    let params = config.routers[0].client.for_name(&Path::empty());
    let tls = params.tls.unwrap();
    assert_eq!(tls.common_name.as_deref(), Some("web.example"));
    assert!(tls.params.client_auth.is_some() && !tls.params.disable_validation);
    assert_eq!(tls.params.trust, ::tls::Trust::Files(vec![folder.path().join("web.pem")]));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let listed = good(&with(&folder, &client("{commonName: a, trustCerts: [@/web.pem, @/old.pem]}")));
    assert!(listed.warnings.iter().any(|warning| warning.contains("`trustCerts` is deprecated")));
    assert!(listed.warnings.iter().any(|warning| warning.contains("expired on 20")));
}

#[test]
fn bad_clients() {
    let folder = folder();
    for (tls, part) in [
        ("{trustCertsBundle: @/web.pem}", "client.tls.commonName: tls is configured with validation but `commonName`"),
        ("{commonName: a, trustCerts: [@/web.pem], trustCertsBundle: @/web.pem}", "both `trustCerts` and"),
        ("{commonName: a, trustCerts: [@/none]}", "client.tls.trustCerts: @/none: cannot be read"),
        ("{commonName: a, trustCertsBundle: @/none}", "client.tls.trustCertsBundle: @/none: cannot be read"),
        ("{commonName: a, trustCertsBundle: @/web.pem, protocols: [TLSv1.1]}", "client.tls.protocols: `TLSv1.1`"),
        (
            "{commonName: a, trustCertsBundle: @/web.pem, clientAuth: {certPath: @/web.pem, keyPath: @/old.key}}",
            "client.tls.clientAuth: @/old.key: the key does not belong",
        ),
        ("{commonName: a, trustCertsBundle: @/web.pem, clientAuth: {certPath: @/web.pem}}", "`keyPath` is missing"),
        (
            "{disableValidation: true, clientAuth: {certPath: @/web.pem, keyPath: @/web.key}}",
            "`disableValidation: true` and `clientAuth` exclude each other",
        ),
        ("{commonName: '{svc}', trustCertsBundle: @/web.pem}", "`{svc}` is not a variable of the prefix: there is no"),
        (
            "{commonName: a, caCertPath: x, trustCertsBundle: @/web.pem}",
            "unknown key `caCertPath`: use `trustCertsBundle`",
        ),
        ("{disableValidation: true, protocols: [SSLv3]}", "client.tls.protocols: `SSLv3` is broken"),
    ] {
        one(&with(&folder, &client(tls)), &with(&folder, part));
    }
}

/// Attack T6.
#[test]
fn validation_that_is_off_is_warned_about_loudly() {
    let config = good(&client("{disableValidation: true}"));
    assert!(config.warnings[0].contains("CERTIFICATES ARE NOT CHECKED"), "{:?}", config.warnings);
    let off = good(&client("{enabled: false}"));
    assert_eq!(off.routers[0].client.for_name(&Path::empty()).tls, None);
    assert!(off.warnings.is_empty(), "{:?}", off.warnings);
}

/// Config reference §8.2: `commonName` is filled for each client, `tls` merges as a whole, `enabled: false` ends it.
#[test]
fn captures_fill_the_common_name() {
    let folder = folder();
    let entries = [
        "- {prefix: /, forwardClientCert: true, tls: {commonName: all.example, trustCertsBundle: @/web.pem}}",
        "- {prefix: '/#/io.l5d.fs/{service}', tls: {commonName: '{service}.example', trustCertsBundle: @/soon.pem}}",
        "- {prefix: '/#/io.l5d.fs/{role}-{svc}', tls: {commonName: '{svc}.{role}', trustCertsBundle: @/soon.pem}}",
        "- {prefix: /#/io.l5d.fs/plain, forwardClientCert: false, tls: {enabled: false}}",
    ];
    let text =
        with(&folder, &router(&format!("client:\n  kind: io.l5d.static\n  configs:\n  {}", entries.join("\n  "))));
    let client = good(&text).routers.remove(0).client;
    let name = |path: &str| client.for_name(&Path::parse(path).unwrap()).tls.and_then(|tls| tls.common_name);
    assert_eq!(name("/$/inet/127.1/80").as_deref(), Some("all.example"));
    assert_eq!(name("/#/io.l5d.fs/web").as_deref(), Some("web.example"));
    assert_eq!(name("/#/io.l5d.fs/blue-web").as_deref(), Some("web.blue"));
    assert_eq!(name("/#/io.l5d.fs/plain"), None);
    let forwards = |path: &str| client.for_name(&Path::parse(path).unwrap()).forward_client_cert;
    assert!(forwards("/#/io.l5d.fs/web") && !forwards("/#/io.l5d.fs/plain"));
    let unknown = text.replace("'{service}.example'", "'{svc}.example'");
    one(
        &unknown,
        "configs[1].tls.commonName: `{svc}` is not a variable of the prefix: the prefix /#/io.l5d.fs/{service} has service",
    );
}
