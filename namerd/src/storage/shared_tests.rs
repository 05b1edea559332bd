//! What all shared stores do, over a store in this process that counts what is followed.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::watch;

/// Holds texts; the n-th change makes the version n.
struct Held {
    texts: watch::Sender<std::collections::BTreeMap<String, String>>,
    /// Namespaces that are followed now, and that were at most.
    followed: AtomicUsize,
    most: AtomicUsize,
}

impl Held {
    fn stored(&self, namespace: &str) -> Option<Stored> {
        let text = self.texts.borrow().get(namespace).cloned()?;
        Some(Stored { text: Ok(text.into()), version: Version("1".into()) })
    }
}

struct Following(Arc<Held>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.followed.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Backend for Held {
    fn kind(&self) -> &'static str {
        "held"
    }

    fn place(&self) -> &'static str {
        "here"
    }

    fn read<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Result<Option<Stored>, StoreError>> {
        Box::pin(async move { Ok(self.stored(namespace)) })
    }

    fn names(&self) -> BoxFuture<'_, Result<BTreeSet<String>, StoreError>> {
        Box::pin(async move { Ok(self.texts.borrow().keys().cloned().collect()) })
    }

    fn follow(self: Arc<Self>, namespace: String, seen: Seen<Option<Stored>>) -> BoxFuture<'static, StoreError> {
        Box::pin(async move {
            let now = self.followed.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(now, Ordering::Relaxed);
            let _following = Following(self.clone());
            let mut changes = self.texts.subscribe();
            loop {
                seen(self.stored(&namespace));
                changes.changed().await.expect("the sender is in the store");
            }
        })
    }

    fn follow_names(self: Arc<Self>, seen: Seen<BTreeSet<String>>) -> BoxFuture<'static, StoreError> {
        Box::pin(async move {
            let mut changes = self.texts.subscribe();
            loop {
                let names = changes.borrow_and_update().keys().cloned().collect();
                seen(names);
                changes.changed().await.expect("the sender is in the store");
            }
        })
    }

    fn write<'a>(
        &'a self,
        namespace: &'a str,
        text: String,
        _: Expected,
        _: &'a Record,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        Box::pin(async move {
            self.texts.send_modify(|texts| drop(texts.insert(namespace.to_owned(), text)));
            Ok(Version("1".into()))
        })
    }

    fn remove<'a>(
        &'a self,
        namespace: &'a str,
        _: Option<Version>,
        _: &'a Record,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.texts.send_modify(|texts| drop(texts.remove(namespace)));
            Ok(())
        })
    }

    fn history<'a>(&'a self, _: &'a str, _: usize) -> BoxFuture<'a, Result<Vec<Logged>, StoreError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

async fn value(live: &mut Activity<Option<VersionedDtab>>, wanted: Option<&str>) {
    let wanted = wanted.map(|text| Dtab::parse(text).expect("a dtab"));
    let seen = timeout(Duration::from_secs(60), async {
        loop {
            if let State::Ok(found) = live.get()
                && found.map(|found| found.dtab) == wanted
            {
                return;
            }
            live.changed().await;
        }
    });
    seen.await.expect("the value");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_takes_no_place() {
    let texts = [("here".to_owned(), "/a => /b".to_owned())].into();
    let held = Arc::new(Held { texts: watch::Sender::new(texts), followed: 0.into(), most: 0.into() });
    let store = SharedStore::open(held.clone(), &Discovery::new(Handle::current()));
    let mut list = store.list();
    list.settled().await;
    let mut absent: Vec<_> = (0..MAX_FOLLOWED + 10).map(|n| store.observe(&format!("absent-{n}"))).collect();
    for live in &mut absent {
        value(live, None).await;
    }
    let mut here = store.observe("here");
    value(&mut here, Some("/a => /b")).await;
    assert_eq!(held.most.load(Ordering::Relaxed), 1);

    // One that comes is followed; one that goes is no more.
    let Some(live) = absent.last_mut() else { return };
    let name = format!("absent-{}", MAX_FOLLOWED + 9);
    for round in 0..2 {
        let dtab = Dtab::parse(&format!("/a => /{round}")).expect("a dtab");
        store.put(&name, dtab, Note::default()).await.expect("a write");
        value(live, Some(&format!("/a => /{round}"))).await;
        store.delete(&name, None, Note::default()).await.expect("a delete");
        value(live, None).await;
    }
    tokio::time::sleep(LINGER * 2).await;
    assert_eq!(held.followed.load(Ordering::Relaxed), 1);
}
