//! What every [`Store`] must do, as tests that any store can be put through.
//!
//! Called by the tests of each store, here and in `tests/`, with the feature `contract`. Not for: what only one store does.
//! A test makes its own empty store, so the data of a shared server needs a prefix of its own per store.

use crate::storage::{Note, Store, StoreError, Version, VersionedDtab};
use dtab::{Activity, BoxFuture, Dtab, State};
use std::collections::{BTreeSet, HashSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::task::JoinSet;

/// How long anything may take before a test fails.
const LIMIT: Duration = Duration::from_secs(60);
/// The clocks of this process and of a store may differ by so much.
const CLOCKS: Duration = Duration::from_secs(60);

type Hook = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;
type Make = Box<dyn Fn() -> BoxFuture<'static, Arc<dyn Store>> + Send + Sync>;

/// A kind of store, and what can be done to it from outside.
pub struct Subject {
    make: Make,
    second: Option<Make>,
    outage: Option<(Hook, Hook)>,
    history: bool,
    equal_is_new: bool,
    one_delete_wins: bool,
}

impl Subject {
    /// `make` gives an empty store.
    pub fn new<F, Fut>(make: F) -> Subject
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Arc<dyn Store>> + Send + 'static,
    {
        Subject {
            make: Box::new(move || Box::pin(make())),
            second: None,
            outage: None,
            history: true,
            equal_is_new: true,
            one_delete_wins: true,
        }
    }

    /// `second` gives another store over the data of the one made last, as another process would have it.
    pub fn second<F, Fut>(self, second: F) -> Subject
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Arc<dyn Store>> + Send + 'static,
    {
        Subject { second: Some(Box::new(move || Box::pin(second()))), ..self }
    }

    /// What makes the store behind fail, and what ends that. The data stays.
    pub fn outage<B, E, BFut, EFut>(self, begin: B, end: E) -> Subject
    where
        B: Fn() -> BFut + Send + Sync + 'static,
        E: Fn() -> EFut + Send + Sync + 'static,
        BFut: Future<Output = ()> + Send + 'static,
        EFut: Future<Output = ()> + Send + 'static,
    {
        let begin: Hook = Box::new(move || Box::pin(begin()));
        let end: Hook = Box::new(move || Box::pin(end()));
        Subject { outage: Some((begin, end)), ..self }
    }

    /// For a store that cannot keep a history: it must say so by an error, or answer none.
    pub fn without_history(self) -> Subject {
        Subject { history: false, ..self }
    }

    /// For a store in which a write of what is there already leaves the version as it is.
    pub fn keeps_versions_of_equal_dtabs(self) -> Subject {
        Subject { equal_is_new: false, ..self }
    }

    /// For a store that may tell several callers who delete the same version at the same moment that they have done it.
    pub fn agrees_to_deletes_of_what_is_gone(self) -> Subject {
        Subject { one_delete_wins: false, ..self }
    }

    async fn make(&self) -> Arc<dyn Store> {
        soon("making the store", (self.make)()).await
    }
}

/// Puts the store through every test below, one after the other.
pub async fn all(subject: &Subject) {
    first_value(subject).await;
    update_is_seen(subject).await;
    outage_and_recovery(subject).await;
    unsubscribe(subject).await;
    create_makes_what_is_not_there(subject).await;
    update_compares_and_sets(subject).await;
    put_makes_or_replaces(subject).await;
    delete_removes(subject).await;
    versions_are_never_reused(subject).await;
    strange_versions_match_nothing(subject).await;
    writes_are_read_at_once(subject).await;
    namespaces_are_listed(subject).await;
    odd_names_are_kept_or_refused(subject).await;
    large_tables_are_kept(subject).await;
    weights_are_exact(subject).await;
    one_of_many_writers_wins(subject).await;
    no_update_is_lost(subject).await;
    history_is_kept(subject).await;
    another_process_agrees(subject).await;
}

/// Question one: the first value of what is there, and of what is not.
pub async fn first_value(subject: &Subject) {
    let store = subject.make().await;
    let absent = until("no dtab", &mut store.observe("absent"), |value| value.is_none()).await;
    assert_eq!(absent, None);
    until("no namespaces", &mut store.list(), |names| names.is_empty()).await;
    let version = create(&store, "ns", "/a => /b").await;
    let first = until("the dtab", &mut store.observe("ns"), Option::is_some).await;
    assert_eq!(first, Some(VersionedDtab { dtab: parse("/a => /b"), version }));
    until("one namespace", &mut store.list(), |names| **names == set(&["ns"])).await;
}

/// Question two: creation, change and removal reach whoever observes, the last state last.
pub async fn update_is_seen(subject: &Subject) {
    let store = subject.make().await;
    let (mut dtab, mut list) = (store.observe("ns"), store.list());
    until("no dtab", &mut dtab, Option::is_none).await;
    let version = create(&store, "ns", "/a => /b").await;
    until("the first version", &mut dtab, has_version(&version)).await;
    until("the name", &mut list, |names| names.contains("ns")).await;
    let mut last = version;
    for n in 0..20 {
        last = put(&store, "ns", &format!("/a => /b/{n}")).await;
    }
    let seen = until("the last version", &mut dtab, has_version(&last)).await;
    assert_eq!(seen.map(|seen| seen.dtab), Some(parse("/a => /b/19")));
    let again = put(&store, "ns", "/a => /b/19").await;
    assert_eq!(again != last, subject.equal_is_new, "whether an equal dtab is a new version: {last:?}, {again:?}");
    until("the version of an equal dtab", &mut dtab, has_version(&again)).await;
    soon("delete", store.delete("ns", None, Note::default())).await.expect("delete");
    until("the removal", &mut dtab, Option::is_none).await;
    until("no name", &mut list, |names| names.is_empty()).await;
    let anew = create(&store, "ns", "/a => /c").await;
    until("the dtab made anew", &mut dtab, has_version(&anew)).await;
}

/// Questions three and four: in an outage what is known stays and writes are refused; after it all goes on by itself.
pub async fn outage_and_recovery(subject: &Subject) {
    let Some((begin, end)) = &subject.outage else { return };
    let store = subject.make().await;
    let version = create(&store, "ns", "/a => /b").await;
    let (mut dtab, mut list) = (store.observe("ns"), store.list());
    until("the dtab", &mut dtab, has_version(&version)).await;
    until("the name", &mut list, |names| names.contains("ns")).await;

    soon("the outage", begin()).await;
    for _ in 0..3 {
        let refused = soon("a write in an outage", store.put("ns", parse("/a => /lost"), Note::default())).await;
        let Err(StoreError::Unavailable(why)) = refused else {
            unreachable!("a write in an outage must be Unavailable, not {refused:?}")
        };
        assert!(why.len() > 10, "the error must say what failed: {why:?}");
        assert!(matches!(dtab.get(), State::Ok(Some(_))), "what is known stays: {:?}", dtab.peek());
        assert!(matches!(list.get(), State::Ok(names) if names.contains("ns")), "names stay: {:?}", list.peek());
    }
    match soon("a read in an outage", store.read("ns")).await {
        Ok(read) => assert!(read.is_some(), "an outage is not an empty store"),
        Err(StoreError::Unavailable(_)) => {}
        Err(other) => unreachable!("a read in an outage must be Unavailable, not {other:?}"),
    }

    soon("the end of the outage", end()).await;
    let version = soon("a write after the outage", async {
        loop {
            match store.put("ns", parse("/a => /after"), Note::default()).await {
                Ok(version) => break version,
                Err(StoreError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(other) => unreachable!("a write after the outage: {other:?}"),
            }
        }
    })
    .await;
    let seen = until("what was written after the outage", &mut dtab, has_version(&version)).await;
    assert_eq!(seen.map(|seen| seen.dtab), Some(parse("/a => /after")));
    create(&store, "new", "/a => /b").await;
    until("a name made after the outage", &mut list, |names| **names == set(&["new", "ns"])).await;
}

/// Question five: what nobody observes any more costs nothing, and can be observed again. A store that reports how many
/// names it keeps for readers, as `observed`, must come down to few.
pub async fn unsubscribe(subject: &Subject) {
    let store = subject.make().await;
    let version = create(&store, "ns", "/a => /b").await;
    for n in 0..300 {
        let mut activity = store.observe(&format!("absent-{n}"));
        if n % 50 == 0 {
            until("no dtab", &mut activity, Option::is_none).await;
        }
    }
    let mut held = store.observe("ns");
    until("the dtab", &mut held, has_version(&version)).await;
    drop(held);
    soon("few names kept for readers", async {
        while store.report()["observed"].as_u64().is_some_and(|observed| observed > 150) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let version = put(&store, "ns", "/a => /c").await;
    until("the dtab, observed again", &mut store.observe("ns"), has_version(&version)).await;
}

/// Create makes what is not there, an empty dtab included, and leaves alone what is.
pub async fn create_makes_what_is_not_there(subject: &Subject) {
    let store = subject.make().await;
    let version = create(&store, "ns", "/a => /b").await;
    let again = soon("create", store.create("ns", parse("/x => /y"), Note::default())).await;
    assert_eq!(again, Err(StoreError::Exists));
    assert_eq!(read(&store, "ns").await, Some(VersionedDtab { dtab: parse("/a => /b"), version }));
    let version = create(&store, "empty", "").await;
    assert_eq!(read(&store, "empty").await, Some(VersionedDtab { dtab: Dtab::empty(), version }));
    assert_eq!(read(&store, "absent").await, None);
}

/// Update changes the version that it names, and nothing else.
pub async fn update_compares_and_sets(subject: &Subject) {
    let store = subject.make().await;
    let first = create(&store, "ns", "/a => /b").await;
    let second = update(&store, "ns", "/a => /c", &first).await.expect("update");
    assert_eq!(update(&store, "ns", "/a => /d", &first).await, Err(StoreError::Mismatch));
    assert_eq!(read(&store, "ns").await, Some(VersionedDtab { dtab: parse("/a => /c"), version: second.clone() }));
    let third = update(&store, "ns", "/a => /d", &second).await.expect("update");
    assert_ne!(third, second);
    assert_eq!(update(&store, "absent", "/a => /b", &third).await, Err(StoreError::NotFound));
    assert_eq!(read(&store, "absent").await, None);
    delete(&store, "ns", None).await.expect("delete");
    assert_eq!(update(&store, "ns", "/a => /b", &third).await, Err(StoreError::NotFound));
}

/// Put makes or replaces, whatever the version.
pub async fn put_makes_or_replaces(subject: &Subject) {
    let store = subject.make().await;
    let first = put(&store, "ns", "/a => /b").await;
    assert_eq!(read(&store, "ns").await, Some(VersionedDtab { dtab: parse("/a => /b"), version: first.clone() }));
    let second = put(&store, "ns", "/a => /c").await;
    assert_ne!(first, second);
    assert_eq!(read(&store, "ns").await, Some(VersionedDtab { dtab: parse("/a => /c"), version: second }));
}

/// Delete removes; with a version, only that one.
pub async fn delete_removes(subject: &Subject) {
    let store = subject.make().await;
    assert_eq!(delete(&store, "ns", None).await, Err(StoreError::NotFound));
    let first = create(&store, "ns", "/a => /b").await;
    assert_eq!(delete(&store, "absent", Some(&first)).await, Err(StoreError::NotFound));
    let second = put(&store, "ns", "/a => /c").await;
    assert_eq!(delete(&store, "ns", Some(&first)).await, Err(StoreError::Mismatch));
    assert!(read(&store, "ns").await.is_some());
    delete(&store, "ns", Some(&second)).await.expect("delete of a version");
    assert_eq!(read(&store, "ns").await, None);
    assert_eq!(delete(&store, "ns", Some(&second)).await, Err(StoreError::NotFound));
    create(&store, "ns", "/a => /b").await;
    delete(&store, "ns", None).await.expect("delete");
    assert_eq!(read(&store, "ns").await, None);
}

/// A version from before a delete never matches again.
pub async fn versions_are_never_reused(subject: &Subject) {
    let store = subject.make().await;
    let mut seen = HashSet::new();
    for round in 0..4 {
        let mut version = create(&store, "ns", "/a => /b").await;
        for old in &seen {
            assert_eq!(update(&store, "ns", "/a => /x", old).await, Err(StoreError::Mismatch), "round {round}");
            assert_eq!(delete(&store, "ns", Some(old)).await, Err(StoreError::Mismatch), "round {round}");
        }
        for n in 0..3 {
            assert!(seen.insert(version.clone()), "{version:?} twice");
            version = update(&store, "ns", &format!("/a => /b/{n}"), &version).await.expect("update");
        }
        assert!(seen.insert(version), "a version twice");
        delete(&store, "ns", None).await.expect("delete");
    }
}

/// Bytes that no store would give out as a version match nothing, and break nothing.
pub async fn strange_versions_match_nothing(subject: &Subject) {
    let store = subject.make().await;
    create(&store, "ns", "/a => /b").await;
    let strange: [&[u8]; 8] =
        [b"", b"\0", b"x", b"-1", b"99999999999999999999999999", &[0xff; 8], &[0; 8], &[b'7'; 10_000]];
    for bytes in strange {
        let version = Version(bytes.to_vec().into());
        assert_eq!(update(&store, "ns", "/a => /x", &version).await, Err(StoreError::Mismatch), "{bytes:?}");
        assert_eq!(delete(&store, "ns", Some(&version)).await, Err(StoreError::Mismatch), "{bytes:?}");
    }
    assert_eq!(read(&store, "ns").await.map(|read| read.dtab), Some(parse("/a => /b")));
}

/// What is acknowledged is read, at once and every time.
pub async fn writes_are_read_at_once(subject: &Subject) {
    let store = subject.make().await;
    let _observed = store.observe("ns");
    for n in 0..30 {
        let text = format!("/a => /b/{n}");
        let version = put(&store, "ns", &text).await;
        assert_eq!(read(&store, "ns").await, Some(VersionedDtab { dtab: parse(&text), version }), "write {n}");
    }
    delete(&store, "ns", None).await.expect("delete");
    assert_eq!(read(&store, "ns").await, None);
}

/// The list has what is there.
pub async fn namespaces_are_listed(subject: &Subject) {
    let store = subject.make().await;
    let mut list = store.list();
    for name in ["b", "a", "c"] {
        create(&store, name, "/a => /b").await;
    }
    until("three names", &mut list, |names| **names == set(&["a", "b", "c"])).await;
    delete(&store, "b", None).await.expect("delete");
    until("two names", &mut list, |names| **names == set(&["a", "c"])).await;
    until("two names, from the start", &mut store.list(), |names| **names == set(&["a", "c"])).await;
}

/// A name is kept as it is, or refused as one that cannot be; it never becomes another.
pub async fn odd_names_are_kept_or_refused(subject: &Subject) {
    let store = subject.make().await;
    let long = "n".repeat(253);
    let names =
        ["a.b", "a_b-c", "UPPER", "0", "ü", "a b", "%2F", "a%20b", "a/b", "a'\"<b>", "a?b=c&d#e", ".", "..", &long];
    let mut kept = BTreeSet::new();
    for name in names {
        let text = format!("/name => /{}", kept.len());
        match soon("create", store.create(name, parse(&text), Note::default())).await {
            Ok(version) => {
                let is = Some(VersionedDtab { dtab: parse(&text), version });
                assert_eq!(read(&store, name).await, is, "{name:?}");
                assert_eq!(until("a dtab", &mut store.observe(name), Option::is_some).await, is, "{name:?}");
                kept.insert(name.to_owned());
            }
            Err(StoreError::BadName(why)) => assert!(why.len() > 10, "{name:?}: {why:?}"),
            Err(other) => unreachable!("{name:?} must be kept or be a BadName, not {other:?}"),
        }
    }
    for name in ["a.b", "a_b-c", "UPPER", "0"] {
        assert!(kept.contains(name) || name.contains('.'), "{name:?} is an ordinary name");
    }
    until("all names", &mut store.list(), |listed| **listed == kept).await;
    for name in &kept {
        delete(&store, name, None).await.expect("delete");
        assert_eq!(read(&store, name).await, None, "{name:?}");
    }
    until("no names", &mut store.list(), |listed| listed.is_empty()).await;
}

/// 1,811 dentries, as the largest table that was ever complained about.
pub async fn large_tables_are_kept(subject: &Subject) {
    let store = subject.make().await;
    let text: Vec<String> = (0..1_811).map(|n| format!("/svc/service-{n} => /#/io.l5d.fs/service-{n}")).collect();
    let dtab = parse(&text.join(";"));
    let version = soon("create", store.create("ns", dtab.clone(), Note::default())).await.expect("create");
    let is = Some(VersionedDtab { dtab, version });
    assert_eq!(read(&store, "ns").await, is);
    assert_eq!(until("the dtab", &mut store.observe("ns"), Option::is_some).await, is);
}

/// Weights come back as they were, however many decimals they have.
pub async fn weights_are_exact(subject: &Subject) {
    let store = subject.make().await;
    let dtab = parse("/a => 0.001 * /x & 0.123456789 * /y & 3 * /z ; /b => (1.005 * /x & /y) | 0.00001 * /z & /w | !");
    let version = soon("create", store.create("ns", dtab.clone(), Note::default())).await.expect("create");
    let is = Some(VersionedDtab { dtab, version });
    assert_eq!(read(&store, "ns").await, is);
    assert_eq!(until("the dtab", &mut store.observe("ns"), Option::is_some).await, is);
}

/// Of many writers that know the same version, or create the same namespace, one wins.
pub async fn one_of_many_writers_wins(subject: &Subject) {
    let store = subject.make().await;
    let outcomes = at_once(16, |n| {
        let store = store.clone();
        async move { store.create("ns", parse(&format!("/a => /{n}")), Note::default()).await }
    })
    .await;
    let version = one_wins(outcomes, &StoreError::Exists);
    assert_eq!(read(&store, "ns").await.map(|read| read.version), Some(version.clone()));
    let outcomes = at_once(16, |n| {
        let (store, version) = (store.clone(), version.clone());
        async move { store.update("ns", parse(&format!("/b => /{n}")), version, Note::default()).await }
    })
    .await;
    let version = one_wins(outcomes, &StoreError::Mismatch);
    assert_eq!(read(&store, "ns").await.map(|read| read.version), Some(version.clone()));
    let outcomes = at_once(8, |_| {
        let (store, version) = (store.clone(), version.clone());
        async move { store.delete("ns", Some(version.clone()), Note::default()).await.map(|()| version) }
    })
    .await;
    match subject.one_delete_wins {
        true => drop(one_wins(outcomes, &StoreError::NotFound)),
        false => assert!(outcomes.iter().any(Result::is_ok), "{outcomes:?}"),
    }
    assert_eq!(read(&store, "ns").await, None);
}

/// Writers that read, change and set again until they win lose nothing.
pub async fn no_update_is_lost(subject: &Subject) {
    let store = subject.make().await;
    create(&store, "ns", "").await;
    let outcomes = at_once(4, |writer| {
        let store = store.clone();
        async move {
            for n in 0..5 {
                loop {
                    let known = store.read("ns").await?.ok_or(StoreError::NotFound)?;
                    let dtab = known.dtab.concat(&parse(&format!("/w{writer} => /{n}")));
                    match store.update("ns", dtab, known.version, Note::default()).await {
                        Ok(_) => break,
                        Err(StoreError::Mismatch) => {}
                        Err(other) => return Err(other),
                    }
                }
            }
            Ok(())
        }
    })
    .await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(read(&store, "ns").await.map(|read| read.dtab.dentries().len()), Some(20));
}

/// Every write is in the history, newest first, with author, reason and time; also that of a namespace which is gone.
pub async fn history_is_kept(subject: &Subject) {
    let store = subject.make().await;
    if !subject.history {
        create(&store, "ns", "/a => /b").await;
        let none = soon("history", store.history("ns", 10)).await;
        assert!(none.as_ref().map_or(true, Vec::is_empty), "{none:?}");
        return;
    }
    let begun = SystemTime::now();
    let note =
        |n: u32| Note { author: Some(format!("author {n}")), reason: (n != 2).then(|| format!("reason {n} \"ü\"")) };
    let first = soon("create", store.create("ns", parse("/a => 0.001 * /b & /c"), note(1))).await.expect("create");
    let second = soon("update", store.update("ns", parse("/a => /c"), first.clone(), note(2))).await.expect("update");
    soon("delete", store.delete("ns", Some(second.clone()), note(3))).await.expect("delete");
    let gone = soon("history", store.history("ns", 10)).await.expect("history");
    assert_eq!(gone.len(), 3, "{gone:?}");
    let third = soon("put", store.put("ns", parse("/a => /d"), Note::default())).await.expect("put");
    put(&store, "other", "/x => /y").await;
    let refused = soon("update", store.update("ns", parse("/no => /no"), first.clone(), note(9))).await;
    assert_eq!(refused, Err(StoreError::Mismatch));

    let history = soon("history", store.history("ns", 10)).await.expect("history");
    let dtabs: Vec<_> = history.iter().map(|entry| entry.dtab.clone()).collect();
    let expected = vec![Some(parse("/a => /d")), None, Some(parse("/a => /c")), Some(parse("/a => 0.001 * /b & /c"))];
    assert_eq!(dtabs, expected);
    let notes: Vec<_> = history.iter().map(|entry| entry.note.clone()).collect();
    assert_eq!(notes, [Note::default(), note(3), note(2), note(1)]);
    let versions: Vec<_> = history.iter().map(|entry| entry.version.clone()).collect();
    assert_eq!((&versions[0], &versions[2], &versions[3]), (&third, &second, &first));
    assert_eq!(versions.iter().collect::<HashSet<_>>().len(), 4, "a delete has a version of its own");
    for pair in history.windows(2) {
        assert!(pair[0].time >= pair[1].time, "newest first: {pair:?}");
    }
    assert!(history[3].time + CLOCKS >= begun && history[0].time <= SystemTime::now() + CLOCKS, "{history:?}");
    assert_eq!(soon("history", store.history("ns", 2)).await.expect("history"), history[..2]);
    assert_eq!(soon("history", store.history("ns", 0)).await.expect("history"), []);
    assert_eq!(soon("history", store.history("never-was", 10)).await.expect("history"), []);
}

/// Two processes over the same data: each sees what the other writes, and versions of one hold for the other.
pub async fn another_process_agrees(subject: &Subject) {
    let Some(second) = &subject.second else { return };
    let one = subject.make().await;
    let two = soon("making the second store", second()).await;
    let (mut dtab, mut list) = (two.observe("ns"), two.list());
    until("no dtab", &mut dtab, Option::is_none).await;
    let version = create(&one, "ns", "/a => /b").await;
    until("what the other has created", &mut dtab, has_version(&version)).await;
    until("its name", &mut list, |names| names.contains("ns")).await;
    let version = update(&two, "ns", "/a => /c", &version).await.expect("update");
    until("what the second has updated", &mut one.observe("ns"), has_version(&version)).await;
    let outcomes = at_once(16, |n| {
        let (store, version) = (if n % 2 == 0 { one.clone() } else { two.clone() }, version.clone());
        async move { store.update("ns", parse(&format!("/b => /{n}")), version, Note::default()).await }
    })
    .await;
    let version = one_wins(outcomes, &StoreError::Mismatch);
    for store in [&one, &two] {
        until("the winner", &mut store.observe("ns"), has_version(&version)).await;
    }
    delete(&one, "ns", Some(&version)).await.expect("delete");
    until("the removal", &mut dtab, Option::is_none).await;
    until("no name", &mut list, |names| names.is_empty()).await;
}

fn parse(text: &str) -> Dtab {
    Dtab::parse(text).expect("a dtab")
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn has_version(version: &Version) -> impl Fn(&Option<VersionedDtab>) -> bool {
    move |value| value.as_ref().is_some_and(|value| value.version == *version)
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(LIMIT, future).await;
    outcome.unwrap_or_else(|_| unreachable!("{what}: nothing within {LIMIT:?}"))
}

/// Waits for a value that is accepted.
async fn until<T: Clone + Debug>(what: &str, activity: &mut Activity<T>, accept: impl Fn(&T) -> bool) -> T {
    let wait = async {
        loop {
            match activity.get() {
                State::Ok(value) if accept(&value) => return value,
                _ => activity.changed().await,
            }
        }
    };
    match tokio::time::timeout(LIMIT, wait).await {
        Ok(value) => value,
        Err(_) => unreachable!("{what}: not within {LIMIT:?}; last seen: {:?}", activity.peek()),
    }
}

async fn create(store: &Arc<dyn Store>, namespace: &str, text: &str) -> Version {
    soon("create", store.create(namespace, parse(text), Note::default())).await.expect("create")
}

async fn put(store: &Arc<dyn Store>, namespace: &str, text: &str) -> Version {
    soon("put", store.put(namespace, parse(text), Note::default())).await.expect("put")
}

async fn update(store: &Arc<dyn Store>, namespace: &str, text: &str, known: &Version) -> Result<Version, StoreError> {
    soon("update", store.update(namespace, parse(text), known.clone(), Note::default())).await
}

async fn delete(store: &Arc<dyn Store>, namespace: &str, known: Option<&Version>) -> Result<(), StoreError> {
    soon("delete", store.delete(namespace, known.cloned(), Note::default())).await
}

async fn read(store: &Arc<dyn Store>, namespace: &str) -> Option<VersionedDtab> {
    soon("read", store.read(namespace)).await.expect("read")
}

/// The outcomes of `n` tasks that run at the same time.
async fn at_once<T, F, Fut>(n: usize, task: F) -> Vec<T>
where
    T: Send + 'static,
    F: Fn(usize) -> Fut,
    Fut: Future<Output = T> + Send + 'static,
{
    let mut tasks: JoinSet<T> = (0..n).map(task).collect();
    let mut outcomes = Vec::new();
    while let Some(outcome) = soon("writers at the same time", tasks.join_next()).await {
        outcomes.push(outcome.expect("a writer"));
    }
    outcomes
}

/// The version that the one winner got; all others must have lost for this reason.
fn one_wins(outcomes: Vec<Result<Version, StoreError>>, lost: &StoreError) -> Version {
    let mut versions: Vec<Version> = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(version) => versions.push(version),
            Err(error) => assert_eq!(error, *lost),
        }
    }
    assert_eq!(versions.len(), 1, "exactly one writer wins");
    versions.remove(0)
}
