//! Cuts tasks out of the room that an agent offers: a task's resources carry the role and reservations of the offer they come from.

use super::wire::{Range, Ranges, Resource, Value};
use crate::policy::resources::Resources;

/// What one agent offers, merged over its offers. Reserved room is used first, as nobody else can use it.
#[derive(Clone, Debug, Default)]
pub struct Stock {
    scalars: Vec<Scalar>,
    ports: Vec<Ports>,
}

#[derive(Clone, Debug)]
struct Scalar {
    dimension: Dimension,
    /// In units of [`Resources`].
    amount: i64,
    /// The resource without its amount.
    like: Resource,
}

#[derive(Clone, Debug)]
struct Ports {
    free: Vec<Range>,
    like: Resource,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dimension {
    Cpu,
    Memory,
    Disk,
    Gpu,
}

impl Dimension {
    const ALL: [Self; 4] = [Self::Cpu, Self::Memory, Self::Disk, Self::Gpu];

    fn of(name: &str) -> Option<Self> {
        match name {
            "cpus" => Some(Self::Cpu),
            "mem" => Some(Self::Memory),
            "disk" => Some(Self::Disk),
            "gpus" => Some(Self::Gpu),
            _ => None,
        }
    }

    fn in_vector(self, vector: &mut Resources) -> &mut i64 {
        match self {
            Self::Cpu => &mut vector.cpu,
            Self::Memory => &mut vector.memory,
            Self::Disk => &mut vector.disk,
            Self::Gpu => &mut vector.gpu,
        }
    }

    /// How many units of [`Resources`] are one on the wire. Mesos itself keeps scalars to three decimals.
    fn scale(self) -> f64 {
        if self == Self::Gpu { 1.0 } else { 1000.0 }
    }

    #[allow(clippy::cast_possible_truncation)]
    fn read(self, value: f64) -> i64 {
        (value * self.scale()).round() as i64
    }

    #[allow(clippy::cast_precision_loss)]
    fn write(self, amount: i64) -> f64 {
        amount as f64 / self.scale()
    }
}

/// A task's share.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cut {
    pub resources: Vec<Resource>,
    pub ports: Vec<u64>,
}

/// Resources that may be taken away again, may be in use by others too, or are a disk of their own are not used.
fn usable(resource: &Resource) -> bool {
    resource.revocable.is_none() && resource.shared.is_none() && resource.disk.is_none()
}

/// The sum of what can be used of these resources.
pub fn room(resources: &[Resource]) -> Resources {
    let mut stock = Stock::default();
    stock.add(resources);
    stock.room()
}

impl Stock {
    /// Adds the resources of an offer.
    pub fn add(&mut self, resources: &[Resource]) {
        resources.iter().filter(|resource| usable(resource)).for_each(|resource| self.add_one(resource));
    }

    fn add_one(&mut self, resource: &Resource) {
        let like = Resource { scalar: None, ranges: None, ..resource.clone() };
        if let (Some(dimension), Some(Value { value })) = (Dimension::of(&resource.name), &resource.scalar) {
            let amount = dimension.read(*value);
            match self.scalars.iter_mut().find(|known| known.like == like) {
                Some(known) => known.amount += amount,
                None => self.scalars.push(Scalar { dimension, amount, like }),
            }
        } else if let ("ports", Some(ranges)) = (resource.name.as_str(), &resource.ranges) {
            match self.ports.iter_mut().find(|known| known.like == like) {
                Some(known) => known.free.extend(&ranges.range),
                None => self.ports.push(Ports { free: ranges.range.clone(), like }),
            }
        }
        self.scalars.sort_by_key(|scalar| scalar.like.reservations.is_empty());
        self.ports.sort_by_key(|ports| ports.like.reservations.is_empty());
    }

    pub fn room(&self) -> Resources {
        let mut room = Resources::ZERO;
        for scalar in &self.scalars {
            *scalar.dimension.in_vector(&mut room) += scalar.amount;
        }
        let ports: u64 = self.ports.iter().flat_map(|ports| &ports.free).map(length).sum();
        room.ports = i64::try_from(ports).unwrap_or(i64::MAX);
        room
    }

    /// Takes a task's share; nothing is taken when it does not fit. Ports are taken from `from` upwards, so that a number
    /// that has just come free is not given to the next task at once.
    pub fn cut(&mut self, mut size: Resources, from: u64) -> Option<Cut> {
        if !size.fits(self.room()) {
            return None;
        }
        let mut cut = Cut::default();
        for dimension in Dimension::ALL {
            let mut need = *dimension.in_vector(&mut size);
            for scalar in self.scalars.iter_mut().filter(|scalar| scalar.dimension == dimension) {
                let part = need.min(scalar.amount);
                if part > 0 {
                    (scalar.amount, need) = (scalar.amount - part, need - part);
                    let scalar_part = Some(Value { value: dimension.write(part) });
                    cut.resources.push(Resource { scalar: scalar_part, ..scalar.like.clone() });
                }
            }
        }
        for _ in 0..size.ports {
            self.cut_port(from, &mut cut);
        }
        Some(cut)
    }

    /// How a share of this size may have been cut when there was more here: from what comes first in each dimension, or last. Without
    /// ports.
    pub fn whole(&self, mut size: Resources) -> Vec<Vec<Resource>> {
        let mut shares: [Vec<Resource>; 2] = [Vec::new(), Vec::new()];
        for dimension in Dimension::ALL {
            let need = *dimension.in_vector(&mut size);
            let mut kinds = self.scalars.iter().filter(|scalar| scalar.dimension == dimension && need > 0);
            let first = kinds.next();
            for (share, scalar) in shares.iter_mut().zip([first, kinds.last().or(first)]) {
                let scalar_of = |scalar: &Scalar| Resource { scalar: Some(Value { value: dimension.write(need) }), ..scalar.like.clone() };
                share.extend(scalar.map(scalar_of));
            }
        }
        let [first, last] = shares;
        if first == last { vec![first] } else { vec![first, last] }
    }

    fn cut_port(&mut self, from: u64, cut: &mut Cut) {
        let Some(port) = self.ports.iter().find_map(|ports| ports.next(from)) else { return };
        let Some(source) = self.ports.iter_mut().find(|ports| ports.holds(port)) else { return };
        source.take(port);
        cut.ports.push(port);
        let range = Range { begin: port, end: port };
        let same = cut.resources.iter_mut().find(|resource| is_like(resource, &source.like));
        if let Some(ranges) = same.and_then(|resource| resource.ranges.as_mut()) {
            ranges.range.push(range);
        } else {
            let ranges = Some(Ranges { range: vec![range] });
            cut.resources.push(Resource { ranges, ..source.like.clone() });
        }
    }
}

impl Ports {
    fn holds(&self, port: u64) -> bool {
        self.free.iter().any(|range| (range.begin..=range.end).contains(&port))
    }

    /// The lowest free port at or above `from`, else the lowest of all.
    fn next(&self, from: u64) -> Option<u64> {
        let above = self.free.iter().filter(|range| range.end >= from).map(|range| range.begin.max(from)).min();
        above.or_else(|| self.free.iter().map(|range| range.begin).min())
    }

    fn take(&mut self, port: u64) {
        let split = |range: Range| {
            let (below, above) = ((range.begin, port.checked_sub(1)), (port.checked_add(1), range.end));
            if !(range.begin..=range.end).contains(&port) {
                return [Some(range), None];
            }
            let left = below.1.filter(|end| *end >= below.0).map(|end| Range { begin: below.0, end });
            let right = above.0.filter(|begin| *begin <= above.1).map(|begin| Range { begin, end: above.1 });
            [left, right]
        };
        self.free = self.free.iter().copied().flat_map(split).flatten().collect();
    }
}

fn is_like(resource: &Resource, like: &Resource) -> bool {
    resource.name == like.name && resource.reservations == like.reservations && resource.rest == like.rest
}

fn length(range: &Range) -> u64 {
    (range.end + 1).saturating_sub(range.begin)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub fn offer(text: &str) -> Vec<Resource> {
        serde_json::from_str(text).unwrap()
    }

    const MIXED: &str = r#"[
        {"name":"cpus","type":"SCALAR","scalar":{"value":1.5},"allocation_info":{"role":"web"}},
        {"name":"cpus","type":"SCALAR","scalar":{"value":0.5},"allocation_info":{"role":"web"},"reservations":[{"type":"STATIC","role":"web"}]},
        {"name":"cpus","type":"SCALAR","scalar":{"value":4},"revocable":{}},
        {"name":"mem","type":"SCALAR","scalar":{"value":100.25},"allocation_info":{"role":"web"}},
        {"name":"disk","type":"SCALAR","scalar":{"value":9},"disk":{"source":{"type":"MOUNT"}}},
        {"name":"ports","type":"RANGES","ranges":{"range":[{"begin":10,"end":11},{"begin":20,"end":20}]},"allocation_info":{"role":"web"}}
    ]"#;

    #[test]
    fn revocable_and_special_resources_are_no_room() {
        assert_eq!(room(&offer(MIXED)), Resources { cpu: 2000, memory: 100_250, disk: 0, gpu: 0, ports: 3 });
    }

    #[test]
    fn reserved_room_goes_first_and_reservations_are_kept() {
        let mut stock = Stock::default();
        stock.add(&offer(MIXED));
        let cut = stock.cut(Resources { ports: 2, ..Resources::new(700, 50) }, 0).unwrap();
        let wire = serde_json::to_value(&cut.resources).unwrap();
        assert_eq!(wire[0]["scalar"]["value"], 0.5);
        assert_eq!(wire[0]["reservations"][0]["role"], "web");
        assert_eq!(wire[1]["scalar"]["value"], 0.2);
        assert_eq!(wire[1]["allocation_info"]["role"], "web");
        assert_eq!(cut.ports, [10, 11]);
        assert_eq!(stock.room(), Resources { cpu: 1300, memory: 50_250, disk: 0, gpu: 0, ports: 1 });
    }

    #[test]
    fn offers_of_an_agent_add_up() {
        let mut stock = Stock::default();
        stock.add(&offer(MIXED));
        stock.add(&offer(r#"[{"name":"cpus","type":"SCALAR","scalar":{"value":1},"allocation_info":{"role":"web"}}]"#));
        let cut = stock.cut(Resources::new(3000, 0), 0).unwrap();
        assert_eq!(cut.resources.len(), 2);
        assert!(stock.cut(Resources::new(1, 0), 0).is_none());
    }

    #[test]
    fn what_was_cut_once_can_be_told_again() {
        let mut stock = Stock::default();
        stock.add(&offer(MIXED));
        let size = Resources::new(500, 100);
        let whole = stock.whole(Resources::new(500, 100));
        assert_eq!(whole.len(), 2, "the cores may have been the reserved ones or not");
        assert_eq!(stock.cut(size, 0).unwrap().resources, whole[0]);
        assert_eq!(stock.whole(size), whole, "also when none of it is left");
    }

    #[test]
    fn ports_go_round() {
        let mut stock = Stock::default();
        stock.add(&offer(MIXED));
        let one = Resources { ports: 1, ..Resources::ZERO };
        let ports: Vec<_> = [11, 12, 21].iter().map(|from| stock.cut(one, *from).unwrap().ports[0]).collect();
        assert_eq!(ports, [11, 20, 10]);
        assert!(stock.cut(one, 0).is_none());
    }

    proptest! {
        #[test]
        fn nothing_is_made_or_lost(sizes in prop::collection::vec((0_i64..900, 0_i64..60_000, 0_i64..3), 1..8)) {
            let mut stock = Stock::default();
            stock.add(&offer(MIXED));
            for (cpu, memory, ports) in sizes {
                let before = stock.room();
                let size = Resources { cpu, memory, ports, ..Resources::ZERO };
                match stock.cut(size, 11) {
                    Some(cut) => {
                        prop_assert_eq!(room(&cut.resources), size);
                        prop_assert_eq!(stock.room() + size, before);
                    }
                    None => prop_assert!(!size.fits(before)),
                }
            }
        }
    }
}
