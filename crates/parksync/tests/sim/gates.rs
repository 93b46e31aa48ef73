//! The gates of the simulation: what happens at them, and how they tell it: late, twice, in another order, hours later, or with a
//! clock that runs ahead.

use jiff::{SignedDuration, Timestamp};
use parksync::domain::gate::{Direction, Read, TimeSource};
use parksync::domain::plate::Plate;
use parksync::domain::presence::Policy;
use parksync::store::GateEvent;

use crate::seed::Scale;
use crate::world::Dice;

/// A message of a gate, and when it is sent for the first time.
#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) send_at: Timestamp,
    pub(crate) plate: String,
    pub(crate) circle: String,
    pub(crate) read: Read,
    pub(crate) batch: Option<u64>,
    /// What the store must call it.
    pub(crate) must_be: Option<&'static str>,
    /// The car turns round here: this looks like a second read until what came between is told, later.
    pub(crate) turns_round: bool,
}

impl Message {
    pub(crate) fn event(&self, received_at: Timestamp, policy: Policy) -> GateEvent {
        GateEvent {
            circle: self.circle.clone(),
            lot: "P1".to_owned(),
            gate: Some("E1".to_owned()),
            read: self.read.clone(),
            received_at,
            policy,
        }
    }
}

/// The crossings of one car over the run, told as gates tell them.
pub(crate) fn tell(plate: &str, circle: &str, start: Timestamp, scale: &Scale, dice: &mut Dice) -> Vec<Message> {
    let seconds = |seconds: u64| SignedDuration::from_secs(i64::try_from(seconds).unwrap());
    let mut messages = Vec::new();
    let mut number = 0;
    let read = |state, at, replayed, number: &mut u64| {
        *number += 1;
        Read {
            plate: Plate::from_stored(plate.to_owned()),
            state,
            at,
            time_source: TimeSource::Sender,
            record_id: Some(format!("{plate}-{number}")),
            device: None,
            replayed,
        }
    };
    if dice.in_hundred(10) {
        // A camera that comes back with the entry of half a day ago, of a car that nothing else is known of.
        let at = start - SignedDuration::from_hours(13);
        let read = read(Direction::In, at, true, &mut number);
        messages.push(message(
            plate,
            circle,
            start + seconds(dice.below(600)),
            read,
            Some(dice.number()),
        ));
        return messages;
    }
    let end = start + SignedDuration::from_mins(scale.minutes);
    // A short run is a busy one.
    let (first, pause) = if scale.is_shared() { (200, 250) } else { (1200, 1500) };
    let mut at = start + seconds(dice.below(first));
    let mut state = Direction::In;
    let offline_from = start + seconds(600 + dice.below(1800));
    let offline_to = offline_from + seconds(700 + dice.below(900));
    let is_cut = dice.in_hundred(25);
    let batch = dice.number();
    // Some gates are punctual and read twice now and then; the others are late, or their clocks run ahead.
    let is_punctual = dice.in_hundred(40);
    while at < end {
        if is_cut && (offline_from..offline_to).contains(&at) {
            let read = read(state, at, true, &mut number);
            messages.push(message(plate, circle, offline_to, read, Some(batch)));
        } else {
            let delay = if !is_punctual && dice.in_hundred(40) {
                seconds(dice.below(400))
            } else {
                seconds(dice.below(3))
            };
            let ahead = if !is_punctual && dice.in_hundred(8) {
                seconds(20 + dice.below(200))
            } else {
                SignedDuration::ZERO
            };
            let first = read(state, at + ahead, false, &mut number);
            let second_camera = is_punctual && !is_cut && dice.in_hundred(20);
            messages.push(message(plate, circle, at + delay, first, None));
            if second_camera {
                let again = read(state, at + seconds(4), false, &mut number);
                let mut again = message(plate, circle, at + delay + seconds(6), again, None);
                again.must_be = Some("merged");
                messages.push(again);
            }
        }
        // One exit in twenty is not seen.
        state = match state {
            Direction::In if dice.in_hundred(5) => Direction::In,
            Direction::In => Direction::Out,
            Direction::Out => Direction::In,
        };
        at += seconds(150 + dice.below(pause));
    }
    if is_punctual && dice.in_hundred(40) {
        // It crosses, turns round and comes back, and the message in the middle is the last to arrive.
        let back = match state {
            Direction::In => Direction::Out,
            Direction::Out => Direction::In,
        };
        for (state, after, delay) in [(state, 0, 1), (back, 20, 50), (state, 45, 2)] {
            let read = read(state, at + seconds(after), false, &mut number);
            let mut message = message(plate, circle, at + seconds(after + delay), read, None);
            message.turns_round = after == 45;
            messages.push(message);
        }
    }
    messages
}

fn message(plate: &str, circle: &str, send_at: Timestamp, read: Read, batch: Option<u64>) -> Message {
    Message {
        send_at,
        plate: plate.to_owned(),
        circle: circle.to_owned(),
        read,
        batch,
        must_be: None,
        turns_round: false,
    }
}
