//! A picture of demand and supply with one load: ours, the best peer or two, and what is needed.

use std::path::Path;

use plotters::prelude::*;

use crate::judge::STEP_MS;
use crate::judge::arena::run;
use crate::judge::contenders::{Pace, all};
use crate::judge::load::Load;

pub const LOAD: &str = "flash crowd";
/// In seconds after the load has begun to count: the first rush, and what follows.
const WINDOW: (u64, u64) = (290, 420);
const SIZE: (u32, u32) = (960, 420);
const SHOWN: [(&str, RGBColor); 4] = [
    ("KEDA + HPA", RGBColor(200, 160, 90)),
    ("Knative KPA", RGBColor(60, 150, 110)),
    ("Microscaling Engine", RGBColor(190, 85, 40)),
    ("ours: averageValue", RGBColor(30, 95, 165)),
];

pub fn draw(load: &Load, path: &Path) {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE).unwrap();
    let mut chart = ChartBuilder::on(&area)
        .caption("a flash crowd: replicas that are needed (grey), and that run, over seconds", ("sans-serif", 17))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(40)
        .build_cartesian_2d(seconds(WINDOW.0)..seconds(WINDOW.1), 0.0..64.0)
        .unwrap();
    chart.configure_mesh().disable_x_mesh().draw().unwrap();
    let mut is_first = true;
    for mut contender in all(Pace::Own) {
        let shown = SHOWN.iter().find(|(name, _)| *name == contender.name());
        let Some((name, colour)) = shown.copied() else { continue };
        let played = run(load, &mut *contender);
        if std::mem::take(&mut is_first) {
            let grey = RGBColor(170, 170, 170).mix(0.5);
            let mut outline = corners(&played.demand);
            outline.extend([(seconds(WINDOW.1), 0.0), (seconds(WINDOW.0), 0.0)]);
            chart.draw_series([Polygon::new(outline, grey)]).unwrap();
        }
        let line = [PathElement::new(corners(&played.supply), colour.stroke_width(2))];
        let legend = move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2));
        chart.draw_series(line).unwrap().label(name).legend(legend);
    }
    chart.configure_series_labels().position(SeriesLabelPosition::UpperRight).background_style(WHITE.mix(0.8)).draw().unwrap();
    area.present().unwrap();
    println!("\n{}", path.display());
}

/// The line through the samples, as far as it is shown: only where it turns.
fn corners(samples: &[i64]) -> Vec<(f64, f64)> {
    let shown = (0..).zip(samples).filter(|(n, _)| (WINDOW.0 * 1000..=WINDOW.1 * 1000).contains(&(n * STEP_MS)));
    let points: Vec<(f64, f64)> =
        shown.map(|(n, count)| (seconds(n * STEP_MS) / 1000.0, f64::from(i32::try_from(*count).unwrap()))).collect();
    let turns = points
        .windows(2)
        .filter(|pair| pair[0].1.total_cmp(&pair[1].1).is_ne())
        .flat_map(|pair| [(pair[1].0, pair[0].1), pair[1]]);
    points.first().copied().into_iter().chain(turns).chain(points.last().copied()).collect()
}

#[allow(clippy::cast_precision_loss)]
fn seconds(n: u64) -> f64 {
    n as f64
}
