//! [`Settings`]: flag, then environment, then the config file `.namerctl.<ext>` of the nearest folder that has one
//! (namerd reference §7.1).
//!
//! Every setting has one name: `base-url` is `--base-url`, `NAMERCTL_BASE_URL`, and `base-url` in the file. Called once, by
//! [`crate::run`].

use crate::error::Failure;
use crate::http::Options;
use crate::time::duration;
use crate::url::Url;
use ::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The endings that are looked for, in this order.
const ENDINGS: [&str; 8] = ["json", "toml", "yaml", "yml", "properties", "props", "prop", "hcl"];
/// A config file or token file may have this many bytes.
const MAX_FILE: u64 = 1024 * 1024;
/// A request may take so long unless it is set.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What a file or the environment says, by setting.
type Values = BTreeMap<String, String>;

/// Where settings come from besides the flags.
pub struct Surroundings<'a> {
    /// Reads a variable of the environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The folder from which the config file is searched upwards.
    pub folder: PathBuf,
    /// Takes warnings.
    pub warn: &'a mut dyn FnMut(String),
}

/// All settings, by name, after the flags, the environment and the file were asked in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    values: Values,
    /// The file whose base URL does not get the token of the environment.
    withheld: Option<PathBuf>,
}

impl Settings {
    /// Reads the surroundings. `config` is the file of `--config`.
    pub fn new(flags: Values, config: Option<&Path>, around: &mut Surroundings<'_>) -> Result<Settings, Failure> {
        let (file, above) = match config {
            Some(file) => {
                (read(file).map_err(|why| Failure::new(format!("--config {}: {why}", file.display())))?, None)
            }
            None => search(around),
        };
        let variable = |name: &&str| {
            let variable = format!("NAMERCTL_{}", name.to_uppercase().replace('-', "_"));
            let value = (around.env)(&variable).filter(|value| !value.is_empty())?;
            Some(((*name).to_owned(), value))
        };
        let mut env: Values = NAMES.iter().filter_map(variable).collect();
        let is_above = above.is_some() && !env.contains_key("base-url") && !flags.contains_key("base-url");
        let mut withheld = None;
        // Whoever can write into a folder above this one must not learn the token of the environment.
        if is_above {
            let had = TOKENS.map(|name| env.remove(name)).iter().any(Option::is_some);
            withheld = above.filter(|_| had && !names_token(&file) && !names_token(&flags));
        }
        let values = file.into_iter().chain(env).chain(flags).collect();
        Ok(Settings { values, withheld })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The base URL.
    pub fn base(&self) -> Result<Url, Failure> {
        let Some(text) = self.get("base-url") else {
            let advice = "say --base-url http://HOST:4180, NAMERCTL_BASE_URL, or `base-url` in .namerctl.yaml";
            return Err(Failure::new("empty base URL").with(advice));
        };
        Url::parse(text).ok_or_else(|| {
            Failure::new(format!("invalid base URL: {text}")).with("it looks like http://namerd.example.com:4180")
        })
    }

    /// How requests are made.
    pub fn options(&self) -> Result<Options, Failure> {
        let timeout = match self.get("timeout") {
            None => Some(TIMEOUT),
            Some("0") => None,
            Some(text) => {
                let time = duration(text).map_err(|why| Failure::usage(format!("timeout: {why}")))?;
                (!time.is_zero()).then_some(time)
            }
        };
        let identity = match (self.get("cert"), self.get("key")) {
            (Some(cert), Some(key)) => Some((cert.into(), key.into())),
            (None, None) => None,
            _ => return Err(Failure::usage("--cert and --key go together")),
        };
        Ok(Options { timeout, cacert: self.get("cacert").map(PathBuf::from), identity })
    }

    /// The header lines that say who asks.
    pub fn credentials(&self) -> Result<HeaderMap, Failure> {
        if let Some(file) = &self.withheld {
            let file = file.display();
            let advice = "say the base URL by NAMERCTL_BASE_URL or --base-url, name the file by --config, or name the token in it";
            return Err(Failure::new(format!(
                "the token of the environment is not sent to the base URL of {file}, a file of a parent folder that names no token"
            ))
            .with(advice));
        }
        let mut headers = HeaderMap::new();
        let token = match (self.get("token"), self.get("token-file")) {
            (Some(token), _) => Some(token.to_owned()),
            (None, Some(file)) => {
                let text = bounded(Path::new(file)).map_err(|why| Failure::new(format!("token file {file}: {why}")))?;
                Some(text.trim().to_owned())
            }
            (None, None) => None,
        };
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| Failure::new("the token has characters that no header can have"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(headers)
    }

    /// The header lines that say who writes, and why.
    pub fn note(&self) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        for (name, header) in [("author", "l5d-author"), ("reason", "l5d-reason"), ("force", "l5d-force")] {
            if let Some(text) = self.get(name) {
                let value = HeaderValue::from_bytes(text.as_bytes())
                    .map_err(|_| Failure::usage(format!("--{name} must be one line without control characters")))?;
                headers.insert(HeaderName::from_static(header), value);
            }
        }
        Ok(headers)
    }

    /// True when failures are to look as those of the first `namerctl`.
    pub fn legacy_errors(&self) -> bool {
        self.get("legacy-errors").is_some_and(|text| matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True"))
    }

    /// With a reason, unless one is set.
    #[must_use]
    pub fn or_reason(mut self, reason: &str) -> Settings {
        self.values.entry("reason".to_owned()).or_insert_with(|| reason.to_owned());
        self
    }
}

/// Every setting.
pub const NAMES: &[&str] =
    &["base-url", "token", "token-file", "cacert", "cert", "key", "timeout", "author", "reason", "legacy-errors"];

/// Those that say who asks.
const TOKENS: [&str; 2] = ["token", "token-file"];

fn names_token(values: &Values) -> bool {
    TOKENS.iter().any(|name| values.get(*name).is_some_and(|value| !value.is_empty()))
}

/// The first file found counts, and is named if it is in a folder above. One that cannot be read is reported and otherwise
/// ignored.
fn search(around: &mut Surroundings<'_>) -> (Values, Option<PathBuf>) {
    for folder in around.folder.clone().ancestors() {
        for ending in ENDINGS {
            let file = folder.join(format!(".namerctl.{ending}"));
            if !file.is_file() {
                continue;
            }
            let values = read(&file).unwrap_or_else(|why| {
                (around.warn)(format!("{} is ignored: {why}", file.display()));
                Values::new()
            });
            let is_above = folder != around.folder && values.contains_key("base-url");
            return (values, is_above.then_some(file));
        }
    }
    (Values::new(), None)
}

fn bounded(file: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(|error| error.to_string())?;
    opened.take(MAX_FILE).read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

fn read(file: &Path) -> Result<Values, String> {
    let text = bounded(file)?;
    let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    match ending {
        "json" => serde_json::from_str(&text).map_err(|error| error.to_string()).and_then(flat),
        "yaml" | "yml" => serde_yaml::from_str(&text).map_err(|error| error.to_string()).and_then(flat),
        "toml" => toml::from_str(&text).map_err(|error| error.to_string()).and_then(flat),
        "properties" | "props" | "prop" => Ok(properties(&text)),
        "hcl" => Err("HCL is not read; write it as .namerctl.yaml".into()),
        _ => Err("the file name must end in .json, .toml, .yaml, .yml, .properties, .props or .prop".into()),
    }
}

/// The settings of a document; keys in any case, as in the first `namerctl`.
fn flat(document: serde_json::Value) -> Result<Values, String> {
    let object = match document {
        serde_json::Value::Object(object) => object,
        serde_json::Value::Null => return Ok(Values::new()),
        other => return Err(format!("settings by name are expected, not {}", crate::wire::kind(&other))),
    };
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    };
    Ok(object.into_iter().map(|(key, value)| (key.to_lowercase(), text(value))).collect())
}

/// `key = value`, `key: value` or `key value` per line; `#` and `!` begin comments.
fn properties(text: &str) -> Values {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', '!']));
    let pair = |line: &str| {
        let end = line.find(|c: char| c == '=' || c == ':' || c.is_whitespace()).unwrap_or(line.len());
        let value = line[end..].trim_start();
        let value = value.strip_prefix(['=', ':']).unwrap_or(value).trim();
        (line[..end].to_lowercase(), value.to_owned())
    };
    lines.map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(flags: &[(&str, &str)], env: &[(&str, &str)], folder: &Path) -> (Settings, Vec<String>) {
        let mut warnings = Vec::new();
        let flags = flags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let lookup = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let mut around = Surroundings { env: &lookup, folder: folder.into(), warn: &mut |text| warnings.push(text) };
        let settings = Settings::new(flags, None, &mut around).unwrap();
        (settings, warnings)
    }

    fn host(settings: &Settings) -> String {
        settings.base().unwrap().host
    }

    #[test]
    fn a_flag_beats_the_environment_and_that_the_file() {
        let home = tempfile::tempdir().unwrap();
        let deep = home.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        assert!(settings(&[], &[], &deep).0.base().unwrap_err().message.contains("empty base URL"));
        std::fs::write(home.path().join(".namerctl.yaml"), "Base-URL: http://file:1\n").unwrap();
        assert_eq!(host(&settings(&[], &[], &deep).0), "file");
        let env = [("NAMERCTL_BASE_URL", "http://env:1")];
        assert_eq!(host(&settings(&[], &env, &deep).0), "env");
        assert_eq!(host(&settings(&[("base-url", "http://flag:1")], &env, &deep).0), "flag");
        assert_eq!(host(&settings(&[], &[("NAMERCTL_BASE_URL", "")], &deep).0), "file");
    }

    #[test]
    fn every_format_but_hcl_is_read_and_the_first_found_counts() {
        let home = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(home.path().join(name), text).unwrap();
        write(".namerctl.hcl", "base-url = \"http://hcl:1\"");
        let (found, warnings) = settings(&[], &[], home.path());
        assert!(found.base().is_err() && warnings[0].contains("HCL"), "{warnings:?}");
        for (name, text, expected) in [
            (".namerctl.prop", "# c\n base-url : http://prop:1", "prop"),
            (".namerctl.properties", "base-url=http://properties:1\n", "properties"),
            (".namerctl.yml", "base-url: http://yml:1", "yml"),
            (".namerctl.yaml", "base-url: http://yaml:1\ntimeout: 5s", "yaml"),
            (".namerctl.toml", "base-url = \"http://toml:1\"\n[other]\nx = 1", "toml"),
            (".namerctl.json", "{\"base-url\": \"http://json:1\"}", "json"),
        ] {
            write(name, text);
            assert_eq!(host(&settings(&[], &[], home.path()).0), expected);
        }
        write(".namerctl.json", "{");
        let (broken, warnings) = settings(&[], &[], home.path());
        assert!(broken.base().is_err() && warnings.len() == 1, "a broken file is reported, and no other is looked for");
    }

    #[test]
    fn a_file_that_is_named_must_be_readable() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("mine.toml");
        let mut around = Surroundings { env: &|_| None, folder: home.path().into(), warn: &mut |_| {} };
        assert!(Settings::new(Values::new(), Some(&file), &mut around).is_err());
        std::fs::write(&file, "base-url = \"http://mine:1\"").unwrap();
        assert_eq!(host(&Settings::new(Values::new(), Some(&file), &mut around).unwrap()), "mine");
    }

    #[test]
    fn the_token_may_be_in_a_file() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("token");
        std::fs::write(&file, "secret\n").unwrap();
        let path = file.to_str().unwrap();
        let bearer = |flags: &[(&str, &str)]| {
            let headers = settings(flags, &[("NAMERCTL_TOKEN_FILE", path)], home.path()).0.credentials().unwrap();
            headers[AUTHORIZATION].to_str().unwrap().to_owned()
        };
        assert_eq!(bearer(&[]), "Bearer secret");
        assert_eq!(bearer(&[("token", "other")]), "Bearer other");
        assert!(settings(&[("token", "a\nb")], &[], home.path()).0.credentials().is_err());
        assert!(settings(&[("author", "a\nb")], &[], home.path()).0.note().is_err());
        assert!(settings(&[("cert", "x")], &[], home.path()).0.options().is_err());
        assert_eq!(settings(&[], &[], home.path()).0.options().unwrap().timeout, Some(TIMEOUT));
        for none in ["0", "0s", "0ms", "0m0s"] {
            assert_eq!(settings(&[("timeout", none)], &[], home.path()).0.options().unwrap().timeout, None);
            let (by_env, _) = settings(&[], &[("NAMERCTL_TIMEOUT", none)], home.path());
            assert_eq!(by_env.options().unwrap().timeout, None);
        }
    }

    #[test]
    fn a_file_above_does_not_get_the_token_of_the_environment() {
        let home = tempfile::tempdir().unwrap();
        let deep = home.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(home.path().join("secret"), "env\n").unwrap();
        let secret = home.path().join("secret").to_str().unwrap().to_owned();
        let plain = "base-url: http://file:1\n";
        let (token, base) = (("NAMERCTL_TOKEN", "env"), ("NAMERCTL_BASE_URL", "http://env:1"));
        let by_file = ("NAMERCTL_TOKEN_FILE", secret.as_str());
        for (text, flags, env, folder, expected) in [
            (plain, &[][..], &[token][..], &deep, None),
            (plain, &[], &[by_file], &deep, None),
            (plain, &[], &[], &deep, Some("")),
            (plain, &[], &[token], &home.path().to_owned(), Some("Bearer env")),
            (plain, &[], &[token, base], &deep, Some("Bearer env")),
            (plain, &[("base-url", "http://flag:1")], &[token], &deep, Some("Bearer env")),
            (plain, &[("token", "flag")], &[token], &deep, Some("Bearer flag")),
            ("base-url: http://file:1\ntoken: file\n", &[], &[token], &deep, Some("Bearer file")),
            ("author: ann\n", &[], &[token, base], &deep, Some("Bearer env")),
        ] {
            std::fs::write(home.path().join(".namerctl.yaml"), text).unwrap();
            let got = settings(flags, env, folder).0.credentials();
            let shown = got.as_ref().ok().map(|headers| headers.get(AUTHORIZATION).map_or("", |v| v.to_str().unwrap()));
            assert_eq!(shown, expected, "{text} {flags:?} {env:?} {folder:?}");
            if let Err(failure) = got {
                assert!(failure.message.contains("the token of the environment is not sent"), "{failure}");
                assert!(failure.message.contains(".namerctl.yaml"), "{failure}");
            }
        }
    }

    #[test]
    fn help_names_every_ending() {
        for ending in ENDINGS.into_iter().filter(|ending| *ending != "hcl") {
            let mut words = crate::examples::ABOUT.split(|c: char| !c.is_ascii_alphanumeric());
            assert!(words.any(|word| word == ending), "{ending}");
        }
    }
}
