use super::*;
use crate::tests::model::Random;

/// What kernels compute, in f64: the sum of some terms and of their absolute values.
fn exact(q: &[f32], x: &[f32], term: impl Fn(f64, f64) -> f64) -> (f64, f64) {
    let terms = q.iter().zip(x).map(|(&q, &x)| term(q.into(), x.into()));
    terms.fold((0.0, 0.0), |(sum, all), term| (sum + term, all + term.abs()))
}

/// The promise of the module. What overflows has a sum of absolute values near the end of f32 at least.
fn check(result: f32, (sum, all): (f64, f64), dim: usize, what: &str) {
    // The sums in f64 have roundings of their own.
    let bound = (rounding(dim) + dim as f64 * f64::EPSILON) * all + underflow(dim);
    let near = (f64::from(result) - sum).abs() <= bound;
    assert!(near || (!result.is_finite() && all > 1e38), "{what}: {result:e} for {sum:e} within {bound:e}");
}

/// All kernels of a family with one query and one row, the single ones and each place of a block.
fn check_all(kernels: &Kernels, q: &[f32], x: &[f32]) {
    let what = |name: &str| format!("{} {name}, {} components", kernels.family.name(), q.len());
    let (product, square) = (exact(q, x, |q, x| q * x), exact(x, x, |x, y| x * y));
    let difference = exact(q, x, |q, x| (q - x) * (q - x));
    let (dot, norm) = (kernels.dot)(q, x);
    check(dot, product, q.len(), &what("dot"));
    check(norm, square, q.len(), &what("norm"));
    // Every family has the bits of the definition.
    let definition = reference_sums(q, x, |q, x| [q * x, x * x, (q - x) * (q - x)]);
    let ([dot, norm], [l2]) = ((kernels.reference_dot)(q, x), (kernels.reference_l2)(q, x));
    let bits = |sums: [f64; 3]| sums.map(f64::to_bits);
    assert_eq!(bits([dot, norm, l2]), bits(definition), "{}", what("reference"));
    let zeros = vec![0.0; q.len()];
    for place in 0..STREAMS {
        let mut rows = [&zeros[..]; STREAMS];
        rows[place] = x;
        let ([dot, norm], [l2]) = ((kernels.dot_rows)(q, rows)[place], (kernels.l2_rows)(q, rows)[place]);
        check(dot, product, q.len(), &what("dot of rows"));
        check(norm, square, q.len(), &what("norm of rows"));
        check(l2, difference, q.len(), &what("l2 of rows"));
    }
    for (query, row) in (0..QUERIES).flat_map(|query| (0..ROWS).map(move |row| (query, row))) {
        let (mut queries, mut rows) = ([&zeros[..]; QUERIES], [&zeros[..]; ROWS]);
        (queries[query], rows[row]) = (q, x);
        check((kernels.dots)(queries, rows)[query][row], product, q.len(), &what("dots"));
        check((kernels.l2s)(queries, rows)[query][row], difference, q.len(), &what("l2s"));
    }
}

/// Numbers of every size that f32 has, or of one size.
fn numbers(random: &mut Random, n: usize, of_every_size: bool) -> Vec<f32> {
    let mut one = || {
        let bits = u32::try_from(random.below(1 << 32)).expect("32 bits");
        let any = f32::from_bits(bits);
        if of_every_size && any.is_finite() { any } else { (bits >> 8) as f32 / (1 << 23) as f32 - 1.0 }
    };
    (0..n).map(|_| one()).collect()
}

#[test]
fn every_family_keeps_the_promise_at_every_length_and_alignment() {
    let mut random = Random(11);
    for dim in 0..=1100 {
        let start = dim % 17;
        let (q, x) = (numbers(&mut random, dim + 17, false), numbers(&mut random, dim + 17, false));
        for kernels in Family::available() {
            check_all(kernels, &q[start..start + dim], &x[(start * 7) % 17..][..dim]);
        }
    }
}

#[test]
fn every_family_keeps_the_promise_with_numbers_of_every_size() {
    let mut random = Random(12);
    let largest = |dim| vec![f32::MAX; dim];
    let smallest = |dim: usize| (0..5).cycle().take(dim).map(f32::from_bits).collect::<Vec<_>>();
    for dim in [1, 2, 7, 8, 15, 16, 31, 32, 33, 100, 384, 768, 1000] {
        for kernels in Family::available() {
            for _ in 0..20 {
                let (q, x) = (numbers(&mut random, dim, true), numbers(&mut random, dim, true));
                check_all(kernels, &q, &x);
                check_all(kernels, &q, &smallest(dim));
            }
            for (q, x) in
                [(largest(dim), largest(dim)), (smallest(dim), largest(dim)), (smallest(dim), smallest(dim))]
            {
                check_all(kernels, &q, &x);
                let negative: Vec<f32> = x.iter().map(|x| -x).collect();
                check_all(kernels, &q, &negative);
            }
        }
    }
}

#[test]
fn vectors_of_two_lengths_are_refused() {
    for kernels in Family::available() {
        for (q, x) in
            [(&[1.0f32; 8][..], &[1.0f32; 9][..]), (&[1.0; 64], &[1.0; 32]), (&[1.0; 32], &[1.0; 64])]
        {
            let refused = |call: &dyn Fn()| {
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).expect_err("another length");
            };
            refused(&|| _ = (kernels.dot)(q, x));
            refused(&|| _ = (kernels.reference_dot)(q, x));
            refused(&|| _ = (kernels.reference_l2)(q, x));
            for place in 0..STREAMS {
                let mut rows = [q; STREAMS];
                rows[place] = x;
                refused(&|| _ = (kernels.dot_rows)(q, rows));
                refused(&|| _ = (kernels.l2_rows)(q, rows));
            }
            refused(&|| _ = (kernels.dots)([q, q, q, x], [q; ROWS]));
            refused(&|| _ = (kernels.l2s)([q; QUERIES], [x, q, q]));
        }
    }
}

#[test]
fn one_family_is_chosen_and_this_machine_has_it() {
    let chosen = kernels();
    assert!(Family::available().any(|kernels| kernels.family == chosen.family));
    assert!(std::ptr::eq(chosen, kernels()), "the same at each call");
    assert!(Family::available().any(|kernels| kernels.family == Family::Portable));
}

#[test]
fn the_mode_of_a_program_is_the_right_one() {
    assert!(rounds_to_nearest());
}

#[cfg(target_arch = "x86_64")]
#[expect(
    unsafe_code,
    deprecated,
    reason = "the mode that a program should not set, for one thread that ends here"
)]
#[test]
fn another_mode_is_noticed() {
    use std::arch::x86_64::{_mm_getcsr, _mm_setcsr};
    let (flush, denormals_are_zero, down, up, cut) = (1 << 15, 1 << 6, 1 << 13, 2 << 13, 3 << 13);
    for mode in [flush, denormals_are_zero, down, up, cut] {
        let noticed = std::thread::spawn(move || {
            // SAFETY: the mode is set back before anything but `rounds_to_nearest` computes.
            unsafe {
                let normal = _mm_getcsr();
                _mm_setcsr(normal | mode);
                let right = rounds_to_nearest();
                _mm_setcsr(normal);
                !right
            }
        });
        assert!(noticed.join().expect("no panic"), "mode {mode:x}");
    }
}
