//! Transformers, from their configuration to names, addresses and delegations: `transform.json`.

use crate::Verdict;
use crate::binding::{CorpusNamer, judge_binding, judge_explain};
use crate::language::text;
use dtab::{Activity, Addr, Dtab, DtabStack, Interpreter, Name, NameTree, Namer, Path, State};
use namers::{DnsOptions, DnsResolver, LocalInterpreter, SystemNamer};
use router::config::{self, TransformerParams};
use serde_json::{Value as Json, json};
use setup::naming::transformers::{around_interpreter, around_namer, built};
use std::sync::Arc;
use tokio::runtime::{Handle, Runtime};

/// A namer of the corpus as the interpreter knows it.
struct Static {
    prefix: Path,
    json: Json,
}

impl Static {
    fn corpus(&self) -> CorpusNamer<'_> {
        CorpusNamer { prefix: self.prefix.clone(), json: &self.json }
    }
}

impl Namer for Static {
    fn prefix(&self) -> &Path {
        &self.prefix
    }

    fn lookup(&self, rest: &Path) -> Activity<NameTree<Name>> {
        Activity::constant(self.corpus().lookup(rest))
    }

    fn resolve(&self, id: &Path) -> Activity<Addr> {
        Activity::constant(State::Ok(self.corpus().addr(id).unwrap_or(Addr::Neg)))
    }
}

/// What the configuration makes of a list of transformers.
fn params(list: &Json) -> Vec<TransformerParams> {
    let interpreter = json!({ "kind": "default", "transformers": list });
    let file = json!({ "routers": [{ "protocol": "http", "servers": [{ "port": 0 }], "interpreter": interpreter }] });
    let config = config::load("case", &file.to_string()).unwrap_or_else(|problems| panic!("{problems}"));
    config.routers.into_iter().next().expect("a router").transformers
}

async fn interpreter(case: &Json, handle: &Handle) -> Arc<dyn Interpreter> {
    let dns = DnsResolver::with_servers(&[], DnsOptions::default(), handle.clone());
    let system = SystemNamer::new(dns.clone(), handle.clone());
    let local = |namers: Vec<Arc<dyn Namer>>| -> Arc<dyn Interpreter> {
        Arc::new(LocalInterpreter::new(namers, None, system.clone(), handle.clone()))
    };
    let nobody = local(Vec::new());
    let mut namers = Vec::new();
    for json in case["namers"].as_array().expect("namers") {
        let prefix = Path::parse(text(json, "prefix")).expect("a prefix");
        let list = built(&params(&json["transformers"]), &dns).await.expect("they can be made");
        namers.push(around_namer(Arc::new(Static { prefix, json: json.clone() }), list, &nobody, handle));
    }
    let global = local(namers);
    let list = built(&params(&case["interpreter_transformers"]), &dns).await.expect("they can be made");
    around_interpreter(global.clone(), list, &global, handle)
}

pub(crate) fn transform(case: &Json) -> Verdict {
    let runtime = Runtime::new().expect("a runtime");
    let interpreter = runtime.block_on(interpreter(case, runtime.handle()));
    let dtab = DtabStack::new([Dtab::parse(text(case, "dtab")).expect("a dtab")]);
    let path = Path::parse(text(case, "path")).expect("a path");
    let addr = |id: &Path| match interpreter.resolve(id).get() {
        State::Ok(addr) => addr,
        State::Pending => Addr::Pending,
        State::Failed(reason) => Addr::Failed(reason),
    };
    let bound = interpreter.bind(&dtab, &path).get();
    if let wrong @ Verdict::Fail(_) = judge_binding(&case["expect"], &bound, &addr) {
        return wrong;
    }
    let explained = match runtime.block_on(interpreter.explain(&dtab, &path)) {
        Ok(tree) => State::Ok(tree),
        Err(reason) => State::Failed(reason.into()),
    };
    judge_explain(case, explained)
}
