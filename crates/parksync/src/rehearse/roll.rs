//! Who is a member in a rehearsal: a share of the trace's cars, or what a file says.

use std::collections::{BTreeMap, BTreeSet};

use super::table::Table;
use crate::cli::Failure;
use crate::demo::dice::Dice;
use crate::domain::member::{Openid, bindable_plate};
use crate::domain::plate::Plate;
use crate::store::MEMBERS_PER_PLATE;

/// Families among the members: cars that belong to two.
const FAMILIES: usize = 2;

/// Which plates are whose.
#[derive(Default)]
pub(super) struct Roll {
    pub(super) bindings: BTreeSet<(Openid, Plate)>,
    /// Lines of the file that were left out, with the reason.
    pub(super) bad: Vec<(u64, String)>,
}

impl Roll {
    /// A share of the cars, chosen by the seed. The first two belong to two members each, the next two to one and the same.
    pub(super) fn share(cars: &BTreeSet<&Plate>, share: f64, seed: u64) -> Self {
        let mut cars: Vec<&Plate> = cars
            .iter()
            .copied()
            .filter(|car| bindable_plate(car.expose()).is_ok())
            .collect();
        let wanted = (cars.len() as f64 * share).round() as usize;
        let mut dice = Dice(seed);
        let mut roll = Self::default();
        for number in 0..wanted.min(cars.len()) {
            let car = cars.swap_remove(dice.index(cars.len()));
            // The fourth car is the third member's second one.
            let owner = if number == FAMILIES + 1 { number - 1 } else { number };
            roll.add(&format!("rehearsal-member-{owner:06}"), car);
            if number < FAMILIES {
                roll.add(&format!("rehearsal-partner-{owner:06}"), car);
            }
        }
        roll
    }

    fn add(&mut self, openid: &str, car: &Plate) {
        if let Ok(openid) = Openid::parse(openid) {
            self.bindings.insert((openid, car.clone()));
        }
    }

    /// What a file with the columns `openid` and `plate` says.
    pub(super) fn read(table: &Table) -> Result<Self, Failure> {
        let columns = table.columns(["openid", "plate"])?;
        let mut roll = Self::default();
        let mut members: BTreeMap<Plate, u32> = BTreeMap::new();
        for line in table.lines() {
            let binding = line.fields.and_then(|fields| {
                let [openid, plate] = columns.map(|column| fields.get(column).unwrap_or_default());
                let openid = Openid::parse(openid).map_err(|why| format!("openid: {why}"))?;
                let plate = bindable_plate(plate).map_err(|why| format!("plate: {why}"))?;
                let binding = (openid, plate);
                let others = members.entry(binding.1.clone()).or_default();
                if *others >= MEMBERS_PER_PLATE && !roll.bindings.contains(&binding) {
                    return Err(format!("plate: {MEMBERS_PER_PLATE} other members have it already"));
                }
                *others += u32::from(roll.bindings.insert(binding));
                Ok(())
            });
            if let Err(why) = binding {
                roll.bad.push((line.number, why));
            }
        }
        Ok(roll)
    }

    /// As a file for the import.
    pub(super) fn csv(&self) -> String {
        let lines = self.bindings.iter();
        let lines: Vec<_> = lines
            .map(|(openid, plate)| format!("{},{}\n", openid.expose(), plate.expose()))
            .collect();
        format!("openid,plate\n{}", lines.concat())
    }

    pub(super) fn members(&self) -> usize {
        self.bindings
            .iter()
            .map(|(openid, _)| openid)
            .collect::<BTreeSet<_>>()
            .len()
    }

    pub(super) fn cars(&self) -> BTreeSet<&Plate> {
        self.bindings.iter().map(|(_, plate)| plate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cars(count: u32) -> Vec<Plate> {
        (0..count)
            .map(|number| Plate::from_stored(format!("宁YR{number:04}")))
            .collect()
    }

    #[test]
    fn a_share_has_two_families_and_a_member_with_two_cars() {
        let cars = cars(40);
        let roll = Roll::share(&cars.iter().collect(), 0.25, 7);

        assert_eq!((roll.cars().len(), roll.bindings.len(), roll.members()), (10, 12, 11));
        assert!(roll.bindings == Roll::share(&cars.iter().collect(), 0.25, 7).bindings);
        assert!(roll.bindings != Roll::share(&cars.iter().collect(), 0.25, 8).bindings);
        assert!(Roll::share(&cars.iter().collect(), 0.0, 7).bindings.is_empty());
        assert_eq!(Roll::share(&cars.iter().collect(), 1.0, 7).cars().len(), 40);
    }

    #[test]
    fn a_file_says_who_is_a_member() {
        let table = Table::of(
            "plate,openid,circle\n宁YR0001,openid-1,x\n宁YR0001,open id,\nhello,openid-2,\n\n宁YR0001,openid-1\n",
        );
        let roll = Roll::read(&table).ok().unwrap();

        assert_eq!(roll.bindings.len(), 1);
        let lines: Vec<_> = roll
            .bad
            .iter()
            .map(|(line, why)| (*line, why.split(':').next().unwrap()))
            .collect();
        assert_eq!(lines, [(3, "openid"), (4, "plate")]);
    }
}
