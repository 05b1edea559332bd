//! The engine over a store in memory and counters that are written down, under a clock that stands still.

use super::*;
use crate::edit::tests::{Fake, entries};
use std::cell::RefCell;
use tokio::time::Instant;

/// Rates of the steps, last first; None cannot be read.
struct Rates(RefCell<Vec<Option<(u64, u64)>>>, RefCell<(u64, u64)>);

impl Rates {
    fn of(list: &[Option<(u64, u64)>]) -> Rates {
        Rates(RefCell::new(list.iter().rev().copied().collect()), RefCell::default())
    }
}

impl Meter for Rates {
    async fn sample(&self) -> Result<Sample, String> {
        let mut sum = self.1.borrow_mut();
        let (success, failures) = self.0.borrow_mut().pop().unwrap_or(Some((0, 0))).ok_or("the router is away")?;
        *sum = (sum.0 + success, sum.1 + failures);
        let mut sample = Sample::default();
        let metrics = serde_json::json!({"rt/h/client/#/b/success": sum.0, "rt/h/client/#/b/failures": sum.1});
        sample.add("r", &metrics, &["/#/b".to_owned()])?;
        Ok(sample)
    }
}

fn shift(text: &str) -> Shift {
    Shift {
        namespace: "web".into(),
        prefix: dtab::parse_prefix("/svc/w").unwrap(),
        from: "/#/a".into(),
        to: "/#/b".into(),
        steps: steps(text).unwrap(),
        every: Duration::from_secs(60),
        abort_below: None,
        min_requests: 1.0,
        resume: false,
        rollback_on_interrupt: false,
    }
}

async fn run(shift: &Shift, fake: &Fake, rates: &Rates) -> (Result<(), Failure>, Vec<String>) {
    let (_keep, mut stop) = watch::channel(false);
    let mut said = Vec::new();
    let outcome = shift.run(fake, rates, &mut stop, &mut |line| said.push(line)).await;
    (outcome, said)
}

fn dst(fake: &Fake) -> String {
    let dtab = fake.dtab.borrow();
    let entry = dtab.as_ref().unwrap().iter().rev().find(|entry| entry.prefix == "/svc/w").unwrap();
    entry.dst.clone()
}

#[tokio::test(start_paused = true)]
async fn each_step_is_one_write_and_the_rest_stays() {
    let fake = Fake::of("/x=>/1; /svc/w=>/#/old; /svc/w=>/#/a; /y=>/2");
    let begun = Instant::now();
    let (outcome, said) = run(&shift("1,10.5,100"), &fake, &Rates::of(&[])).await;
    outcome.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(120), "no pause after the last step");
    let writes: Vec<String> = fake.writes.borrow().iter().map(|write| write[2].dst.clone()).collect();
    assert_eq!(writes, ["1 * /#/b & 99 * /#/a", "10.5 * /#/b & 89.5 * /#/a", "/#/b"]);
    assert_eq!(fake.dtab.borrow().clone().unwrap(), entries("/x=>/1; /svc/w=>/#/old; /svc/w=>/#/b; /y=>/2"));
    assert_eq!(said.last().unwrap(), "done: /svc/w => /#/b");
}

#[tokio::test(start_paused = true)]
async fn a_bad_rate_takes_it_back() {
    let fake = Fake::of("/svc/w=>/#/a");
    let wanted = Shift { abort_below: Some(99.5), ..shift("1,50,100") };
    let rates = Rates::of(&[Some((1000, 500)), Some((1000, 1)), Some((990, 10))]);
    let (outcome, said) = run(&wanted, &fake, &rates).await;
    let failure = outcome.unwrap_err();
    assert_eq!(failure.message, "rolled back: 1000 requests, 99.00% successful, below 99.5%", "{said:?}");
    assert_eq!((dst(&fake), fake.writes.borrow().len()), ("/#/a".into(), 3));
}

#[tokio::test(start_paused = true)]
async fn a_namerd_that_is_away_is_waited_for_and_longer_to_go_back() {
    let fake = Fake::of("/svc/w=>/#/a");
    let wanted = Shift { abort_below: Some(99.5), ..shift("10,100") };
    let (_keep, mut stop) = watch::channel(false);
    let rates = Rates::of(&[Some((0, 0)), Some((1, 1))]);
    let mut say = |line: String| {
        if line.starts_with("10%") {
            fake.away.set(300);
        }
    };
    let failure = wanted.run(&fake, &rates, &mut stop, &mut say).await.unwrap_err();
    assert!(failure.message.starts_with("rolled back"), "{failure}");
    assert_eq!(dst(&fake), "/#/a");
    let mut say = |line: String| {
        if line.starts_with("10%") {
            fake.away.set(300);
        }
    };
    let failure = shift("10,100").run(&fake, &rates, &mut stop, &mut say).await.unwrap_err();
    assert!(failure.detail.unwrap().contains("the last that is known to be written: /svc/w => 10 * "));
}

#[tokio::test(start_paused = true)]
async fn the_last_step_is_judged_too() {
    let fake = Fake::of("/svc/w=>/#/a");
    let wanted = Shift { abort_below: Some(99.5), ..shift("100") };
    let (outcome, _) = run(&wanted, &fake, &Rates::of(&[Some((0, 0)), Some((1, 1))])).await;
    assert!(outcome.is_err());
    assert_eq!(dst(&fake), "/#/a");
}

#[tokio::test(start_paused = true)]
async fn a_step_without_requests_or_metrics_is_prolonged_and_then_taken_back() {
    let fake = Fake::of("/svc/w=>/#/a");
    let wanted = Shift { abort_below: Some(90.0), min_requests: 10.0, ..shift("10,100") };
    let rates = Rates::of(&[Some((0, 0)), Some((5, 0)), None, Some((5, 0)), Some((100, 0))]);
    let (outcome, said) = run(&wanted, &fake, &rates).await;
    outcome.unwrap();
    assert_eq!(said.iter().filter(|line| line.contains("not judged")).count(), 2, "{said:?}");
    let fake = Fake::of("/svc/w=>/#/a");
    let (outcome, _) = run(&wanted, &fake, &Rates::of(&[])).await;
    assert!(outcome.unwrap_err().message.contains("10 pauses were not enough"));
    assert_eq!(dst(&fake), "/#/a");
}

/// A router at which requests to the service fail before they reach any client.
struct Lost(RefCell<u64>, u64);

impl Meter for Lost {
    async fn sample(&self) -> Result<Sample, String> {
        let mut sample = Sample::default();
        let metrics =
            serde_json::json!({"rt/h/service/svc/w/requests": 5000, "rt/h/service/svc/w/failures": *self.0.borrow()});
        *self.0.borrow_mut() += self.1;
        sample.add("r", &metrics, &["/#/b".to_owned()])?;
        Ok(sample)
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_reach_no_destination_take_it_back() {
    for (lost, pauses) in [(20, 1), (10, 1), (4, 3), (0, PATIENCE)] {
        let fake = Fake::of("/svc/w=>/#/a");
        let wanted = Shift { abort_below: Some(90.0), min_requests: 10.0, ..shift("10,100") };
        let (_keep, mut stop) = watch::channel(false);
        let begun = Instant::now();
        let failure = wanted.run(&fake, &Lost(RefCell::new(7), lost), &mut stop, &mut |_| ()).await.unwrap_err();
        assert_eq!((begun.elapsed(), dst(&fake)), (wanted.every * pauses, "/#/a".into()), "{failure}");
        assert_eq!(failure.message.contains("no request reached /#/b"), lost > 0, "{failure}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_changed_when_the_metrics_cannot_be_read_at_first() {
    let fake = Fake::of("/svc/w=>/#/a");
    let wanted = Shift { abort_below: Some(90.0), ..shift("10,100") };
    let (outcome, _) = run(&wanted, &fake, &Rates::of(&[None])).await;
    assert!(outcome.unwrap_err().message.starts_with("nothing was changed"));
    assert!(fake.writes.borrow().is_empty());
}

#[tokio::test(start_paused = true)]
async fn another_editor_of_the_entry_ends_it_and_of_others_does_not() {
    let fake = Fake::of("/svc/w=>/#/a; /y=>/1");
    *fake.others.borrow_mut() = vec![entries("/svc/w=>/#/a; /y=>/2; /z=>/3")];
    run(&shift("100"), &fake, &Rates::of(&[])).await.0.unwrap();
    assert_eq!(fake.dtab.borrow().clone().unwrap(), entries("/svc/w=>/#/b; /y=>/2; /z=>/3"));
    let fake = Fake::of("/svc/w=>/#/a");
    *fake.others.borrow_mut() = vec![entries("/svc/w=>/#/mine")];
    let failure = run(&shift("100"), &fake, &Rates::of(&[])).await.0.unwrap_err();
    assert_eq!(failure.message, "somebody else has changed /svc/w: it was /#/a and is now /#/mine");
    assert_eq!(dst(&fake), "/#/mine");
}

#[tokio::test(start_paused = true)]
async fn it_begins_only_at_from_and_goes_on_with_resume() {
    let fake = Fake::of("/svc/w=>50.00*/#/b & 50.00*/#/a");
    let failure = run(&shift("10,60,100"), &fake, &Rates::of(&[])).await.0.unwrap_err();
    assert!(failure.detail.unwrap().contains("50% of this shift: add --resume"));
    let wanted = Shift { resume: true, ..shift("10,60,100") };
    run(&wanted, &fake, &Rates::of(&[])).await.0.unwrap();
    assert_eq!(fake.writes.borrow().len(), 2, "60 and 100");
    let fake = Fake::of("/svc/w=>/#/c");
    assert!(run(&wanted, &fake, &Rates::of(&[])).await.0.unwrap_err().detail.unwrap().contains("--from '/#/c'"));
    let fake = Fake::of("/svc=>/#/a");
    assert!(run(&wanted, &fake, &Rates::of(&[])).await.0.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_interruption_states_what_is_there() {
    for rollback in [false, true] {
        let fake = Fake::of("/svc/w=>/#/a");
        let wanted = Shift { rollback_on_interrupt: rollback, ..shift("10,100") };
        let (send, mut stop) = watch::channel(false);
        let rates = Rates::of(&[]);
        let mut say = |_| ();
        let running = wanted.run(&fake, &rates, &mut stop, &mut say);
        let interrupt = async {
            tokio::time::sleep(Duration::from_secs(30)).await;
            send.send_replace(true);
            std::future::pending::<()>().await;
        };
        let failure = tokio::select! { outcome = running => outcome.unwrap_err(), () = interrupt => unreachable!() };
        assert_eq!(failure.status, INTERRUPTED);
        let (state, expected) = match rollback {
            false => ("/svc/w => 10 * /#/b & 90 * /#/a\nto go back", "10 * /#/b & 90 * /#/a"),
            true => ("/svc/w => /#/a", "/#/a"),
        };
        assert!(failure.detail.as_deref().unwrap().starts_with(state), "{failure}");
        assert_eq!(dst(&fake), expected);
    }
}

#[test]
fn steps_and_conditions_are_checked() {
    assert_eq!(steps("1, 10%,50,100").unwrap(), [1.0, 10.0, 50.0, 100.0]);
    for wrong in ["", "0", "101", "10,10", "50,10", "x", "1.234", "-1"] {
        assert!(steps(wrong).is_err(), "{wrong}");
    }
    assert_eq!((threshold("success<99.5"), threshold("success < 99%")), (Ok(99.5), Ok(99.0)));
    for wrong in ["", "success>1", "success<", "success<0", "success<101", "latency<1"] {
        assert!(threshold(wrong).is_err(), "{wrong}");
    }
    let union = Shift { from: "/#/a | /#/c".into(), ..shift("10") };
    assert_eq!(union.dst(10.0), "10 * /#/b & 90 * (/#/a | /#/c)");
}
