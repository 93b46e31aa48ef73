//! One Saturday: who comes when, what the gates tell of it, and what WeChat Pay has to hold in the end.
//!
//! Pure and seeded. The truth is worked out here from the cars alone, with none of the service's code, so that one mistake
//! cannot pass its own audit.

use jiff::civil::{Weekday, date};
use jiff::tz::{TimeZone, offset};
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::dice::Dice;
use super::messages::{self, Message};
use super::told::States;
use crate::domain::gate::Direction;

/// One lane of the demo's mall.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GateSpec {
    pub(super) lot: &'static str,
    pub(super) id: &'static str,
    pub(super) format: &'static str,
    pub(super) state: Direction,
}

const fn gate(lot: &'static str, id: &'static str, format: &'static str, state: Direction) -> GateSpec {
    GateSpec { lot, id, format, state }
}

/// Three car parks of three vendors. The first lane out of P1 is the one that loses its network in the afternoon.
pub(super) const GATES: [GateSpec; 10] = [
    gate("P1", "E1", "vzenith-http", Direction::In),
    gate("P1", "E2", "vzenith-http", Direction::In),
    gate("P1", "X1", "vzenith-http", Direction::Out),
    gate("P1", "X2", "vzenith-http", Direction::Out),
    gate("P2", "E1", "hikvision-isapi", Direction::In),
    gate("P2", "E2", "hikvision-isapi", Direction::In),
    gate("P2", "X1", "hikvision-isapi", Direction::Out),
    gate("P2", "X2", "hikvision-isapi", Direction::Out),
    gate("P3", "E1", "huaxia-mode5", Direction::In),
    gate("P3", "X1", "huaxia-mode5", Direction::Out),
];
const OFFLINE: (&str, &str) = ("P1", "X1");

/// Seconds after midnight.
const OPENS: i64 = 9 * 3600;
const CLOSES: i64 = 21 * 3600;
const LAST_EXIT: i64 = 23 * 3600 + 1800;
const OFFLINE_FROM: i64 = 14 * 3600;
const OFFLINE_TO: i64 = 15 * 3600 + 1800;

/// Something that happens at a moment of the day.
#[derive(Debug)]
pub(super) struct Step {
    /// When it reaches us.
    pub(super) at: Timestamp,
    /// Steps of one group happen one after another; steps of different groups may overlap.
    pub(super) group: u64,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// A gate posts a message.
    Post {
        gate: &'static GateSpec,
        message: Message,
        /// The state that a member's lane should hear of it, for measuring.
        tells: Option<(String, Direction, i64)>,
    },
    /// A member binds a plate while the car is inside.
    Bind { openid: String, plate: String },
}

/// A day and its truth.
#[derive(Debug)]
pub(super) struct Day {
    midnight: i64,
    bindings: Vec<(String, String)>,
    steps: Vec<Step>,
    /// What each member's car has to be told as.
    truth: States,
    pub(super) tally: Tally,
}

/// How often what happens.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) cars: u32,
    pub(super) resends: u32,
    pub(super) second_cameras: u32,
    pub(super) misreads: u32,
    pub(super) unread: u32,
    pub(super) missing_exits: u32,
    pub(super) replayed: u32,
    pub(super) late_binds: u32,
}

/// One time a car was read at a gate.
#[derive(Clone, Copy)]
struct Read {
    /// When it crossed, in seconds of the day.
    at: i64,
    /// When the message arrives.
    arrives: i64,
    state: Direction,
    replayed: bool,
}

impl Day {
    /// Makes the day of a seed.
    pub(super) fn new(seed: u64, cars: u32) -> Self {
        let midnight = last_saturday();
        let mut day = Self {
            midnight,
            bindings: Vec::new(),
            steps: Vec::new(),
            truth: States::new(),
            tally: Tally::default(),
        };
        let mut dice = Dice(seed);
        let mut replay = Vec::new();
        for number in 0..cars {
            day.car(number, &mut dice, &mut replay);
        }
        day.tally.cars = cars;
        // The lane comes back and sends what it stored, oldest first, as fast as it is answered.
        replay.sort_by_key(|(at, _)| *at);
        day.tally.replayed = u32::try_from(replay.len()).unwrap_or(u32::MAX);
        for (index, (_, what)) in replay.into_iter().enumerate() {
            let at = day.time(OFFLINE_TO) + SignedDuration::from_millis(20 * i64::try_from(index).unwrap_or(0));
            day.steps.push(Step {
                at,
                group: u64::MAX,
                what,
            });
        }
        day.steps.sort_by_key(|step| step.at);
        day
    }

    /// Half an hour before the doors open.
    pub(super) fn opens_at(&self) -> Timestamp {
        self.time(OPENS - 1800)
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    pub(super) const fn truth(&self) -> &States {
        &self.truth
    }

    /// The members that are known in the morning.
    pub(super) fn members_csv(&self) -> String {
        let mut csv = "openid,plate\n".to_owned();
        for (openid, plate) in &self.bindings {
            csv.push_str(&format!("{openid},{plate}\n"));
        }
        csv
    }

    fn time(&self, second: i64) -> Timestamp {
        Timestamp::from_second(self.midnight + second).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// A car's day: whose it is, when it comes, what the gates make of it, what has to be told.
    fn car(&mut self, number: u32, dice: &mut Dice, replay: &mut Vec<(i64, What)>) {
        let plate = plate('Y', number);
        let openids = owners(number, dice);
        let late_bind = openids.is_empty() && dice.one_in(40);
        let mut reads: Vec<Read> = Vec::new();
        let mut enters = OPENS + dice.up_to(CLOSES - OPENS);
        let mut first_stay = None;
        loop {
            // One in a hundred only drives through.
            let stay = if dice.one_in(100) {
                45 + dice.up_to(60)
            } else {
                1200 + dice.up_to(4 * 3600)
            };
            let leaves = enters + stay;
            if leaves > LAST_EXIT {
                break;
            }
            let lot = ["P1", "P2", "P3"][dice.index(3)];
            self.passage(
                &plate,
                number,
                lot,
                Direction::In,
                enters,
                dice,
                &mut reads,
                replay,
                late_bind,
            );
            if dice.one_in(70) {
                self.tally.missing_exits += 1;
            } else {
                self.passage(
                    &plate,
                    number,
                    lot,
                    Direction::Out,
                    leaves,
                    dice,
                    &mut reads,
                    replay,
                    late_bind,
                );
            }
            first_stay.get_or_insert((enters, leaves));
            // One in three comes back: fetched somebody, had lunch elsewhere.
            if !dice.one_in(3) {
                break;
            }
            enters = leaves + 900 + dice.up_to(3600);
        }
        for openid in openids {
            let told = told(&reads, None);
            self.expect(&openid, &plate, told);
            self.bindings.push((openid, plate.clone()));
        }
        if let Some((entered, left)) = first_stay.filter(|(entered, left)| late_bind && left - entered > 1200) {
            let binds = (entered + left) / 2;
            let openid = format!("demo-late-member-{number:06}");
            self.expect(&openid, &plate, told(&reads, Some(binds)));
            self.tally.late_binds += 1;
            let at = self.time(binds);
            self.steps.push(Step {
                at,
                group: u64::from(number),
                what: What::Bind { openid, plate },
            });
        }
    }

    fn expect(&mut self, openid: &str, plate: &str, told: Vec<(Direction, i64)>) {
        let told = told
            .into_iter()
            .map(|(state, at)| (state, self.midnight + at))
            .collect();
        self.truth.insert((openid.to_owned(), plate.to_owned()), told);
    }

    /// One crossing of one car, as the cameras tell it.
    #[expect(
        clippy::too_many_arguments,
        reason = "all of it is one crossing; a struct for one caller would say less"
    )]
    fn passage(
        &mut self,
        plate: &str,
        number: u32,
        lot: &'static str,
        state: Direction,
        at: i64,
        dice: &mut Dice,
        reads: &mut Vec<Read>,
        replay: &mut Vec<(i64, What)>,
        stays_online: bool,
    ) {
        let gates: Vec<&'static GateSpec> = GATES
            .iter()
            .filter(|gate| gate.lot == lot && gate.state == state)
            .collect();
        let mut gate = gates[dice.index(gates.len())];
        let is_cut = |gate: &GateSpec| (gate.lot, gate.id) == OFFLINE && (OFFLINE_FROM..OFFLINE_TO).contains(&at);
        if is_cut(gate) && stays_online {
            gate = gates[1];
        }
        if is_cut(gate) {
            let message = messages::write(gate, plate, self.midnight + at, dice.number(), true);
            replay.push((
                at,
                What::Post {
                    gate,
                    message,
                    tells: None,
                },
            ));
            reads.push(Read {
                at,
                arrives: OFFLINE_TO,
                state,
                replayed: true,
            });
            return;
        }
        // Both bumpers are read now and then: another camera, some seconds later.
        let cameras = if dice.one_in(25) { 2 } else { 1 };
        let mut known = false;
        for camera in 0..cameras {
            let at = at + i64::from(camera) * (2 + dice.up_to(18));
            let unread = dice.one_in(100);
            let misread = !unread && dice.one_in(50);
            let seen = match (unread, misread) {
                (true, _) => messages::UNREAD.to_owned(),
                (_, true) => self::plate('X', number),
                _ => plate.to_owned(),
            };
            self.tally.unread += u32::from(unread);
            self.tally.misreads += u32::from(misread);
            let correct = !unread && !misread;
            let tells = (correct && !known).then(|| (plate.to_owned(), state, self.midnight + at));
            if correct && known {
                self.tally.second_cameras += 1;
            }
            if correct && !known {
                reads.push(Read {
                    at,
                    arrives: at,
                    state,
                    replayed: false,
                });
                known = true;
            }
            let message = messages::write(gate, &seen, self.midnight + at, dice.number(), false);
            let resends = if dice.one_in(16) { 1 + dice.index(3) } else { 0 };
            for resend in 0..=resends {
                let resend = i64::try_from(resend).unwrap_or(0);
                let tells = tells.clone().filter(|_| resend == 0);
                let what = What::Post {
                    gate,
                    message: message.clone(),
                    tells,
                };
                self.steps.push(Step {
                    at: self.time(at + resend * 5),
                    group: u64::from(number),
                    what,
                });
            }
            if correct {
                self.tally.resends += u32::try_from(resends).unwrap_or(0);
            }
        }
    }
}

/// What one member's car has to be told as. `binds`: the member is one only from then on.
///
/// A car's reads arrive in the order of their time, but for a replay: of that only the newest counts, and only when the car
/// has not been told as something newer already.
fn told(reads: &[Read], binds: Option<i64>) -> Vec<(Direction, i64)> {
    let mut arrivals = reads.to_vec();
    arrivals.sort_by_key(|read| (read.arrives, read.at));
    let mut told: Vec<(Direction, i64)> = Vec::new();
    let since = binds.unwrap_or(i64::MIN);
    if let Some(last) = arrivals
        .iter()
        .rfind(|read| read.arrives < since)
        .filter(|read| read.state == Direction::In)
    {
        told.push((last.state, last.at));
    }
    let newest_replayed = arrivals.iter().filter(|read| read.replayed).map(|read| read.at).max();
    for read in arrivals.iter().filter(|read| read.arrives >= since) {
        let overtaken = told.last().is_some_and(|(_, at)| *at > read.at);
        let superseded = read.replayed && newest_replayed != Some(read.at);
        if !overtaken && !superseded {
            told.push((read.state, read.at));
        }
    }
    told
}

/// Most cars belong to nobody we know, some to one member, some to a family; some members have two cars.
fn owners(number: u32, dice: &mut Dice) -> Vec<String> {
    let member = |number: u32| format!("demo-member-{number:06}-openid");
    match dice.index(20) {
        0..=4 => vec![member(number)],
        5 => vec![member(number), format!("demo-partner-{number:06}-openid")],
        6 => vec![member(number.saturating_sub(1))],
        _ => Vec::new(),
    }
}

/// A plate that no car can have: 宁 has no authority letter beyond E.
fn plate(authority: char, number: u32) -> String {
    const LETTERS: &[u8; 24] = b"ABCDEFGHJKLMNPQRSTUVWXYZ";
    let letter = char::from(LETTERS[(number / 10_000) as usize % LETTERS.len()]);
    format!("宁{authority}{letter}{:04}", number % 10_000)
}

fn last_saturday() -> i64 {
    let china = TimeZone::fixed(offset(8));
    let today = Timestamp::now().to_zoned(china.clone()).date();
    let saturday = today
        .nth_weekday(-1, Weekday::Saturday)
        .unwrap_or_else(|_| date(2024, 11, 23));
    // Never today: all of that day lies in the past.
    let saturday = if saturday == today {
        saturday - 7.days()
    } else {
        saturday
    };
    saturday
        .to_zoned(china)
        .map_or(0, |midnight| midnight.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(at: i64, state: Direction) -> Read {
        Read {
            at,
            arrives: at,
            state,
            replayed: false,
        }
    }

    #[test]
    fn a_seed_is_a_day() {
        let (one, same) = (Day::new(7, 200), Day::new(7, 200));

        assert_eq!(one.truth(), same.truth());
        assert_eq!(one.steps().len(), same.steps().len());
    }

    #[test]
    fn of_a_replay_only_the_newest_news_is_told() {
        use Direction::{In, Out};
        let replayed = |at| Read {
            at,
            arrives: 1000,
            state: Out,
            replayed: true,
        };

        assert_eq!(told(&[read(1, In), replayed(5)], None), [(In, 1), (Out, 5)]);
        assert_eq!(told(&[read(1, In), replayed(5), read(9, In)], None), [(In, 1), (In, 9)]);
        assert_eq!(
            told(&[read(1, In), replayed(5), read(9, In), replayed(12)], None),
            [(In, 1), (In, 9), (Out, 12)]
        );
    }

    #[test]
    fn a_late_bind_tells_the_entry() {
        use Direction::{In, Out};

        assert_eq!(told(&[read(1, In), read(9, Out)], Some(5)), [(In, 1), (Out, 9)]);
        assert_eq!(told(&[read(1, In), read(3, Out), read(9, In)], Some(5)), [(In, 9)]);
    }
}
