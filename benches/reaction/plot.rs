//! A picture of the table: median and 99th percentile of each case, on a logarithmic scale.

use plotters::prelude::*;

use crate::CASES;
use crate::launch::Launch;
use crate::report::Row;
use crate::support::times::{Summary, Times};
use crate::support::usage::result_path;

/// Drawn for the stock interval.
const INTERVAL: &str = "1secs";
const SIZE: (u32, u32) = (960, 460);
const WIDTH: f64 = 0.14;

struct Series {
    name: &'static str,
    colour: RGBColor,
    launch: Launch,
    who: Who,
}

#[derive(Clone, Copy)]
enum Who {
    Ours,
    Floor,
    Pretended,
}

const SERIES: [Series; 5] = [
    Series { name: "isolated", colour: RGBColor(190, 85, 40), launch: Launch::Isolated, who: Who::Ours },
    Series { name: "isolated, bare client", colour: RGBColor(232, 184, 160), launch: Launch::Isolated, who: Who::Floor },
    Series { name: "pooled", colour: RGBColor(30, 95, 165), launch: Launch::Pooled, who: Who::Ours },
    Series { name: "pooled, bare client and executor", colour: RGBColor(150, 190, 230), launch: Launch::Pooled, who: Who::Floor },
    Series { name: "the same without processes", colour: RGBColor(200, 200, 200), launch: Launch::Pooled, who: Who::Pretended },
];

impl Who {
    fn times(self, row: &Row) -> Option<&Times> {
        match self {
            Self::Ours => Some(&row.ours),
            Self::Floor => Some(&row.floor),
            Self::Pretended => row.pretended.as_ref(),
        }
    }
}

pub fn draw(rows: &[Row]) {
    let path = result_path("reaction.svg");
    let area = SVGBackend::new(&path, SIZE).into_drawing_area();
    area.fill(&WHITE).unwrap();
    let names: Vec<String> = CASES.iter().map(|case| case.name()).collect();
    let right = f64::from(u32::try_from(names.len()).unwrap()) - 0.5;
    let mut chart = ChartBuilder::on(&area)
        .caption("from the push of demand to the last task RUNNING, ms (bar: median, tick: p99)", ("sans-serif", 17))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(56)
        .build_cartesian_2d(-0.5..right, (2.0..5000.0).log_scale())
        .unwrap();
    let name_at = |x: &f64| names.get(nearest(*x)).filter(|_| (x - x.round()).abs() < 0.01).cloned().unwrap_or_default();
    chart.configure_mesh().disable_x_mesh().x_labels(names.len() * 2).x_label_formatter(&name_at).draw().unwrap();
    for (series, place) in SERIES.iter().zip(-2_i32..) {
        let bars = bars(rows, series, f64::from(place) * (WIDTH + 0.02));
        let fill = series.colour.filled();
        let legend = move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], fill);
        let rectangles =
            bars.iter().map(|(x, summary)| Rectangle::new([(x - WIDTH / 2.0, 2.0), (x + WIDTH / 2.0, summary.p50)], fill));
        chart.draw_series(rectangles).unwrap().label(series.name).legend(legend);
        let ticks =
            bars.iter().map(|(x, summary)| PathElement::new([(*x, summary.p50), (*x, summary.p99)], BLACK.stroke_width(1)));
        chart.draw_series(ticks).unwrap();
    }
    let labels = chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).background_style(WHITE.mix(0.8)).draw();
    labels.unwrap();
    area.present().unwrap();
    println!("{}", path.display());
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place on an axis of five")]
fn nearest(x: f64) -> usize {
    x.round().max(0.0) as usize
}

fn bars(rows: &[Row], series: &Series, shift: f64) -> Vec<(f64, Summary)> {
    let of_series = rows.iter().filter(|row| row.interval == INTERVAL && row.launch == series.launch);
    let place = |row: &Row| CASES.iter().zip(0_i32..).find(|(case, _)| **case == row.case).map(|(_, x)| f64::from(x));
    of_series.filter_map(|row| Some((place(row)? + shift, Summary::of(&series.who.times(row)?.up)))).collect()
}
