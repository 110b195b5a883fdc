use super::*;
use crate::query::distance::reference_distance;
use crate::sys::kernel::{Family, STREAMS};
use crate::tests::model::Random;

const METRICS: [Metric; 3] = [Metric::L2, Metric::Ip, Metric::Cosine];

/// A pair of vectors for which f32 and f64 say different things in one way or another.
fn pair(random: &mut Random, kind: usize) -> (Vec<f32>, Vec<f32>) {
    let dim = 1 + random.below(200);
    let mut unit = || (random.below(1 << 24)) as f32 / (1 << 23) as f32 - 1.0;
    let mut vector = |scale: f32| (0..dim).map(|_| unit() * scale).collect::<Vec<f32>>();
    let (q, x) = (vector(1.0), vector(1.0));
    let scaled = |v: &[f32], by: f32| v.iter().map(|v| v * by).collect::<Vec<f32>>();
    let nearly =
        |q: &[f32], x: &[f32], by: f32| q.iter().zip(x).map(|(q, x)| q + x * by).collect::<Vec<f32>>();
    match kind {
        0 => (q, x),
        // Close to each other: the distance is far below the numbers that it is made of.
        1 => {
            let x = nearly(&q, &x, 1e-7);
            (q, x)
        }
        2 => {
            let x = scaled(&nearly(&q, &x, 1e-4), 3.0);
            (q, x)
        }
        3 => {
            let shift = vec![1000.0; dim];
            (nearly(&shift, &q, 1.0), nearly(&shift, &x, 1.0))
        }
        // Products and norms at the ends of f32.
        4 => (scaled(&q, 1e19), scaled(&x, 1e19)),
        5 => (scaled(&q, 1e-22), scaled(&x, 1e-22)),
        6 => (scaled(&q, 1e-40), scaled(&x, 1e-3)),
        7 => (scaled(&q, 1e30), scaled(&x, 1e-25)),
        8 => (vec![0.0; dim], x),
        9 => {
            let mut far = vec![0.0; dim];
            far[0] = 1e30;
            (q, far)
        }
        10 => (scaled(&q, 3e38), scaled(&x, -3e38)),
        // Opposite to each other, and the same.
        11 => {
            let x = scaled(&q, -2.0);
            (q, x)
        }
        _ => {
            let x = q.clone();
            (q, x)
        }
    }
}
const KINDS: usize = 13;

/// Whether the bound drops the row where the bar is `bar`.
fn drops(bound: &mut Bound, kernels: &kernel::Kernels, bar: f64, q: &[f32], x: &[f32]) -> bool {
    bound.set_bar(bar);
    let (dot, square) = (kernels.dot)(q, x);
    let single = match bound.metric {
        Metric::L2 => bound.drops((kernels.l2_rows)(q, [x; STREAMS])[0][0], 0.0),
        _ => bound.drops(dot, bound.row_norm(square)),
    };
    let block = match bound.metric {
        Metric::L2 => (kernels.l2s)([q; 4], [x; 3])[3][2],
        _ => (kernels.dots)([q; 4], [x; 3])[3][2],
    };
    single || bound.drops(block, if bound.metric == Metric::L2 { 0.0 } else { bound.row_norm(square) })
}

fn bound_of(metric: Metric, q: &[f32]) -> Bound {
    let square = q.iter().map(|&q| f64::from(q) * f64::from(q)).sum();
    Bound::new(metric, q.len(), square)
}

/// How many of some random pairs are dropped though they are not beyond the bar, with `spoil` done to each bound.
fn wrong(spoil: impl Fn(&mut Bound)) -> u64 {
    let (mut random, mut wrong) = (Random(5), 0);
    for round in 0..4000 * KINDS {
        let (q, x) = pair(&mut random, round % KINDS);
        for metric in METRICS {
            let distance = reference_distance(metric, &q, &x);
            let mut bound = bound_of(metric, &q);
            spoil(&mut bound);
            for kernels in Family::available() {
                // A row at the bar is kept, since it may be older than the one that is there.
                wrong += u64::from(drops(&mut bound, kernels, distance, &q, &x));
                wrong += u64::from(drops(&mut bound, kernels, distance.next_up(), &q, &x));
            }
        }
    }
    wrong
}

#[test]
fn what_is_not_beyond_the_bar_is_kept() {
    assert_eq!(wrong(|_| ()), 0);
}

#[test]
fn each_term_of_the_bound_is_needed() {
    assert!(wrong(|bound| bound.errors.rounding = 0.0) > 0, "rounding");
    assert!(
        wrong(|bound| (bound.errors.underflow, bound.errors.relative_underflow) = (0.0, 0.0)) > 0,
        "underflow"
    );
    let small = |bound: &mut Bound| {
        // Rows of few components round so little that only the reference's own errors are left.
        (bound.errors.rounding, bound.errors.reference) = (bound.errors.rounding / 1e4, 0.0);
    };
    assert!(wrong(small) > 0, "reference");
}

#[test]
fn what_is_well_beyond_the_bar_is_dropped() {
    let mut random = Random(6);
    for _ in 0..2000 {
        let (q, x) = pair(&mut random, 0);
        for (metric, kernels) in METRICS.into_iter().flat_map(|m| Family::available().map(move |k| (m, k))) {
            let distance = reference_distance(metric, &q, &x);
            let size = if metric == Metric::Ip { q.len() as f64 } else { distance.max(1.0) };
            let bar = distance - 1e-4 * size;
            assert!(drops(&mut bound_of(metric, &q), kernels, bar, &q, &x), "{metric:?} {distance} {bar}");
        }
    }
}

#[test]
fn no_bar_drops_nothing_and_one_below_everything_all() {
    let (q, x) = ([1.0f32, 2.0, 3.0], [3.0f32, -1.0, 0.5]);
    let kernels = kernel::kernels();
    for metric in METRICS {
        assert!(!drops(&mut bound_of(metric, &q), kernels, f64::INFINITY, &q, &x), "{metric:?}");
    }
    for metric in [Metric::L2, Metric::Cosine] {
        assert!(drops(&mut bound_of(metric, &q), kernels, f64::NEG_INFINITY, &q, &x), "{metric:?}");
    }
}
