//! As the operator of an edge listener I let strangers forge nothing, and tell them nothing: attacks X2 and X3, and rule
//! 4 of requirements §5.

use e2e::{Backend, Client, Reply, Response, Switchyard};

const CONFIG: &str = r#"
admin: { port: @ADMIN@ }
namers:
- kind: io.l5d.fs
  rootDir: @DISCO@
routers:
- protocol: http
  label: http
  servers:
  - { port: @P0@, overrides: off }
  - { port: @P1@, overrides: legacy }
  - { port: @P2@, clearContext: true }
  - { port: @P3@, overrides: off, trustForwarded: true }
  - { port: @P4@, overrides: legacy, trustForwarded: false }
  - { port: @P5@, overrides: { mode: policy, rules: [{ from: [10.99.0.0/16] }] } }
  - { port: @P6@, overrides: off, maxCallDepth: 3 }
  dtab: |
    /svc => /#/io.l5d.fs ;
"#;

const OFF: usize = 0;
const LEGACY: usize = 1;
const CLEAR: usize = 2;
const OFF_TRUSTING: usize = 3;
const LEGACY_DISTRUSTING: usize = 4;
const STRANGER: usize = 5;
const SHALLOW: usize = 6;

/// What a stranger would like to be believed.
const SPOOFED: [(&str, &str); 17] = [
    ("x-forwarded-for", "10.0.0.1"),
    ("X-Forwarded-Proto", "https"),
    ("x-forwarded-host", "admin"),
    ("x-forwarded-port", "443"),
    ("x-forwarded-prefix", "/evil"),
    ("forwarded", "for=10.0.0.1"),
    ("x-real-ip", "10.0.0.1"),
    ("x-forwarded-client-cert", "Hash=x"),
    ("via", "1.1 evil, 1.1 linkerd"),
    ("l5d-client-id", "admin"),
    ("l5d-reqid", "0123456789abcdef"),
    ("l5d-dst-service", "/svc/evil"),
    ("l5d-dst-client", "/evil"),
    ("l5d-dst-residual", "/evil"),
    ("l5d-ctx-deadline", "1 9999999999999999999"),
    ("l5d-sample", "1.0"),
    ("x-own", "kept"),
];

struct Site {
    router: Switchyard,
    web: Backend,
}

impl Site {
    fn start() -> Site {
        let router = Switchyard::start(CONFIG);
        let web = Backend::with(|_| {
            let told = Reply::text("web").header("l5d-err", "secret").header("l5d-dst-client", "/#/secret");
            told.header("l5d-success-class", "1.0").header("x-own", "kept")
        });
        router.disco().set("web", &[web.addr()]);
        Site { router, web }
    }

    fn ask(&self, listener: usize, host: &str, headers: &[(&str, &str)]) -> Response {
        Client::connect(self.router.addr(listener)).request("GET", host, "/", headers, b"")
    }

    /// Which of the names that are spoofed arrive, in the order given.
    fn believed(&self, listener: usize) -> Vec<&'static str> {
        assert_eq!(self.ask(listener, "web", &SPOOFED).status, 200);
        let seen = self.web.last();
        let spoofed = SPOOFED.iter().filter(|(name, value)| seen.all(name).iter().any(|seen| seen.contains(value)));
        spoofed.map(|(name, _)| *name).collect()
    }
}

#[test]
fn x2_forged_headers_of_strangers_are_gone() {
    let site = Site::start();
    assert_eq!(site.believed(OFF), ["x-own"]);
    let seen = site.web.last();
    assert_eq!(seen.all("via"), ["1.1 linkerd, 1.1 linkerd"], "hops of ours count, so that loops end");
    assert_eq!(seen.header("l5d-dst-service"), Some("/svc/web"));
    assert_eq!(seen.header("l5d-client-id"), None);
    assert_eq!(site.believed(STRANGER), ["x-own"]);
    let forwarded = SPOOFED.iter().take(7).map(|(name, _)| *name);
    let hops: Vec<_> = forwarded.chain(["via", "x-own"]).collect();
    assert_eq!(site.believed(OFF_TRUSTING), hops);
    assert_eq!(site.believed(CLEAR), hops, "clearContext is what it was: it looks at l5d- only");
    let ours = ["l5d-client-id", "l5d-ctx-deadline", "x-own"];
    assert_eq!(site.believed(LEGACY_DISTRUSTING), ours);
    let mut all = hops;
    all.splice(all.len() - 1.., ours);
    assert_eq!(site.believed(LEGACY), all, "as Linkerd 1, but for what only the router may say");
}

#[test]
fn x2_a_loop_through_an_edge_still_ends() {
    let site = Site::start();
    let (own, foreign) = (["1.1 linkerd"; 4].join(", "), ["1.1 other"; 3].join(", "));
    assert_eq!(site.ask(SHALLOW, "web", &[("via", &own)]).status, 400);
    assert_eq!(site.ask(SHALLOW, "web", &[("via", &foreign)]).status, 200);
    assert_eq!(site.web.last().all("via"), ["1.1 linkerd"]);
}

#[test]
fn x3_aliases_of_trusted_names_are_dropped() {
    let site = Site::start();
    let aliases = [
        ("l5d_dtab", "/svc => /x"),
        ("l5d_ctx_dtab", "/svc => /x"),
        ("l5d-ctx_dtab", "/svc => /x"),
        ("l5d_dst-service", "/svc/evil"),
        ("l5d_reqid", "1"),
        ("x_forwarded_for", "10.0.0.1"),
        ("x-forwarded_for", "10.0.0.1"),
        ("x_forwarded_client_cert", "Hash=x"),
        ("X_Forwarded_Proto", "https"),
        ("x_real_ip", "10.0.0.1"),
        ("x_own_name", "kept"),
        ("my_l5d_dtab", "kept"),
    ];
    for listener in [OFF, LEGACY, CLEAR] {
        assert_eq!(site.ask(listener, "web", &aliases).status, 200);
        let seen = site.web.last();
        let kept: Vec<&str> =
            aliases.iter().map(|(name, _)| *name).filter(|name| seen.header(name).is_some()).collect();
        assert_eq!(kept, ["x_own_name", "my_l5d_dtab"], "listener {listener}");
    }
}

/// A code and the id of the request is all that an untrusted caller is told.
fn is_code(text: &str, code: &str) -> bool {
    text.strip_prefix(code).is_some_and(|rest| rest.starts_with(" (request id ") && rest.len() < 40)
}

#[test]
fn rule_4_details_leave_to_trusted_callers_only() {
    let site = Site::start();
    let ours = |response: &Response| -> Vec<String> {
        let names = response.headers.iter().map(|(name, _)| name.to_lowercase());
        names.filter(|name| name.starts_with("l5d-")).collect()
    };
    for listener in [OFF, STRANGER, CLEAR] {
        let response = site.ask(listener, "web", &[]);
        assert_eq!((response.status, ours(&response)), (200, Vec::new()), "listener {listener}");
        assert_eq!(response.body.len(), 0, "the text of an error of a hop further in stays within");
        assert_eq!(response.header("x-own"), Some("kept"));
        let refused = site.ask(listener, "nobody", &[]);
        assert_eq!((refused.status, ours(&refused)), (502, Vec::new()), "listener {listener}");
        assert!(is_code(&refused.text(), "no-route"), "listener {listener}: {refused:?}");
        let mut client = Client::connect(site.router.addr(listener));
        client.send_raw(b"GET / HTTP/1.1\r\nHost: web\r\nContent-Length: x\r\n\r\n");
        let refused = client.read_response(false).expect("an answer");
        assert_eq!((refused.status, ours(&refused)), (400, Vec::new()), "listener {listener}");
        assert!(is_code(&refused.text(), "bad-request"), "listener {listener}: {refused:?}");
    }
    let response = site.ask(LEGACY, "web", &[]);
    assert_eq!(ours(&response), ["l5d-err", "l5d-success-class"].map(str::to_owned));
    assert_eq!(response.text(), "web");
    let refused = site.ask(LEGACY, "nobody", &[]);
    assert!(refused.header("l5d-err").is_some() && refused.text().contains("/svc/nobody"));
}
