//! Names over a store that is told what to say, and the system namer.

use super::*;
use crate::storage::{Entry, Note, StoreError, Version};
use dtab::Publisher;
use namers::{DnsOptions, DnsResolver};
use std::collections::BTreeSet;
use tokio::runtime::Handle;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(60);

/// One dtab, whatever the namespace; nothing can be written.
struct Told(Publisher<Option<VersionedDtab>>);

impl Told {
    fn says(&self, text: Option<&str>) {
        let version = Version("1".into());
        let dtab = |text| Dtab::parse(text).expect("a dtab");
        self.0.publish(State::Ok(text.map(|text| VersionedDtab { dtab: dtab(text), version })));
    }
}

fn refused<T: Send + 'static>() -> BoxFuture<'static, Result<T, StoreError>> {
    Box::pin(async { Err(StoreError::Forbidden("this store only tells".into())) })
}

impl Store for Told {
    fn kind(&self) -> &'static str {
        "told"
    }

    fn list(&self) -> Activity<Arc<BTreeSet<String>>> {
        Activity::constant(State::Pending)
    }

    fn observe(&self, _: &str) -> Activity<Option<VersionedDtab>> {
        self.0.subscribe()
    }

    fn read(&self, _: &str) -> BoxFuture<'_, Result<Option<VersionedDtab>, StoreError>> {
        refused()
    }

    fn create(&self, _: &str, _: Dtab, _: Note) -> BoxFuture<'_, Result<Version, StoreError>> {
        refused()
    }

    fn update(&self, _: &str, _: Dtab, _: Version, _: Note) -> BoxFuture<'_, Result<Version, StoreError>> {
        refused()
    }

    fn put(&self, _: &str, _: Dtab, _: Note) -> BoxFuture<'_, Result<Version, StoreError>> {
        refused()
    }

    fn delete(&self, _: &str, _: Option<Version>, _: Note) -> BoxFuture<'_, Result<(), StoreError>> {
        refused()
    }

    fn history(&self, _: &str, _: usize) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        refused()
    }

    fn report(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}

fn names() -> (Arc<Told>, Names) {
    let discovery = Discovery::new(Handle::current());
    let dns = DnsResolver::within(&discovery, &[], DnsOptions::default());
    let told = Arc::new(Told(Activity::channel().0));
    let system = SystemNamer::new(dns, Handle::current());
    (told.clone(), Names::new(told, Vec::new(), system, &discovery))
}

fn path(text: &str) -> Path {
    Path::parse(text).expect("a path")
}

/// The id of the leaf that `tree` comes to be.
async fn leaf(tree: &mut Activity<NameTree<BoundName>>, wanted: &str) {
    let found = timeout(SOON, async {
        while !matches!(tree.get(), State::Ok(NameTree::Leaf(name)) if name.id == path(wanted)) {
            tree.changed().await;
        }
    });
    found.await.unwrap_or_else(|_| panic!("{:?} in place of {wanted}", tree.peek()));
}

#[tokio::test]
async fn a_binding_follows_the_store_and_keeps_what_it_knew() {
    let (told, names) = names();
    let mut tree = names.bind("default", &Dtab::empty(), &path("/svc/web"));
    assert_eq!(tree.get(), State::Pending);
    told.says(Some("/svc/web => /$/inet/127.0.0.1/1"));
    leaf(&mut tree, "/$/inet/127.0.0.1/1").await;
    told.0.publish(State::Failed("the store is away".into()));
    told.says(Some("/svc/web => /$/inet/127.0.0.1/2"));
    leaf(&mut tree, "/$/inet/127.0.0.1/2").await;
    told.0.publish(State::Failed("the store is away".into()));
    tokio::task::yield_now().await;
    leaf(&mut tree, "/$/inet/127.0.0.1/2").await;
    told.says(None);
    timeout(SOON, async {
        while tree.get() != State::Ok(NameTree::Neg) {
            tree.changed().await;
        }
    })
    .await
    .expect("a namespace that is gone is an empty dtab");
}

#[tokio::test]
async fn what_a_caller_adds_comes_after_the_stored_dtab() {
    let (told, names) = names();
    told.says(Some("/svc/web => /$/inet/127.0.0.1/1"));
    let extra = Dtab::parse("/svc/web => /$/inet/127.0.0.1/9").expect("a dtab");
    leaf(&mut names.bind("default", &extra, &path("/svc/web")), "/$/inet/127.0.0.1/9").await;
    leaf(&mut names.bind("default", &Dtab::empty(), &path("/svc/web")), "/$/inet/127.0.0.1/1").await;
    let tree = names.explain(Some("default"), &Dtab::empty(), &path("/svc/web")).await.expect("a tree");
    assert_eq!(tree.dentry.map(|dentry| dentry.to_string()), None);
    let tree = names.explain(None, &Dtab::empty(), &path("/svc/web")).await.expect("a tree");
    assert_eq!(tree.node, dtab::Delegation::Neg);
}

#[tokio::test]
async fn equal_questions_share_a_binding_and_are_known() {
    let (told, names) = names();
    told.says(Some("/svc => /$/inet/127.0.0.1/1"));
    let mut all: Vec<_> = (0..100).map(|_| names.bind("default", &Dtab::empty(), &path("/svc/web"))).collect();
    for tree in &mut all {
        leaf(tree, "/$/inet/127.0.0.1/1").await;
    }
    assert_eq!(names.trees.len(), 1);
    assert_eq!(names.known("default"), [path("/svc/web")]);
    assert!(names.known("other").is_empty());
}

#[tokio::test]
async fn the_prefix_of_a_transformer_that_is_not_ours_is_looked_behind() {
    let (_told, names) = names();
    let mut addr = names.resolve(&path("/%/io.l5d.port/9/$/inet/127.0.0.1/1"));
    let expected = State::Ok(Addr::bound([([127, 0, 0, 1], 1).into()]));
    assert_eq!(timeout(SOON, addr.settled()).await.expect("an answer"), expected);
    assert_eq!(names.resolve(&path("/#/none/x")).settled().await, State::Ok(Addr::Neg));
}

/// Files come and go; nobody looks while nobody asks.
#[tokio::test]
async fn names_of_files_are_listed_over_time() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("web"), "127.0.0.1 80").expect("written");
    std::fs::create_dir(folder.path().join("v2")).expect("made");
    std::fs::write(folder.path().join("v2/web"), "127.0.0.1 80").expect("written");
    let discovery = Discovery::new(Handle::current());
    let dns = DnsResolver::within(&discovery, &[], DnsOptions::default());
    let system = SystemNamer::new(dns.clone(), Handle::current());
    let fs = FsNamer::within(&discovery, path("/#/io.l5d.fs"), folder.path().to_owned(), dns).expect("a namer");
    let store = Arc::new(Told(Activity::channel().0));
    let names = Names::new(store, Vec::new(), system, &discovery);
    assert_eq!(names.bound().settled().await, State::Ok([].into()));
    let names = names.listing(vec![Arc::new(fs)]);
    let mut live = names.bound();
    let becomes = async |live: &mut Activity<Arc<[Path]>>, wanted: &[&str]| {
        let wanted: Arc<[Path]> = wanted.iter().map(|text| path(text)).collect();
        let reached = async {
            while live.get() != State::Ok(wanted.clone()) {
                live.changed().await;
            }
        };
        timeout(SOON, reached).await.unwrap_or_else(|_| panic!("{:?} in place of {wanted:?}", live.peek()));
    };
    becomes(&mut live, &["/#/io.l5d.fs/v2/web", "/#/io.l5d.fs/web"]).await;
    std::fs::write(folder.path().join("api"), "127.0.0.1 81").expect("written");
    std::fs::remove_file(folder.path().join("web")).expect("removed");
    becomes(&mut live, &["/#/io.l5d.fs/api", "/#/io.l5d.fs/v2/web"]).await;
}
