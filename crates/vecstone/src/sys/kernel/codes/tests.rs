use super::super::Family;
use super::*;
use crate::tests::model::Random;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// 2⁻²⁴.
const UNIT: f64 = (f32::EPSILON / 2.0) as f64;

fn number(random: &mut Random) -> f32 {
    random.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0
}

fn numbers(random: &mut Random, n: usize, scale: f32) -> Vec<f32> {
    (0..n).map(|_| number(random) * scale).collect()
}

/// The code of a component, 0 to 15.
fn code_of(code: &[u8], component: usize) -> u8 {
    let (group, lane) = (component / 64, component % 64);
    let byte = code[group * 32 + lane % 32];
    if lane < 32 { byte & 15 } else { byte >> 4 }
}

/// Levels of which the last ones are left out if they are no whole group.
fn levels(levels: &[i8]) -> Vec<Levels> {
    levels.as_chunks().0.iter().map(|levels| Levels(*levels)).collect()
}

fn products(queries: &[&[i8]], codes: &[u8]) -> Vec<i32> {
    let product = |query: &[i8], code: &[u8]| {
        let terms = query.iter().enumerate();
        terms.map(|(n, &level)| i32::from(level) * i32::from(code_of(code, n))).sum()
    };
    let codes = |query: &&[i8]| codes.chunks_exact(query.len() / 2).collect::<Vec<_>>();
    queries.iter().flat_map(|query| codes(query).into_iter().map(|code| product(query, code))).collect()
}

/// What every family says the products are.
fn check_products(queries: &[&[i8]], codes: &[u8]) {
    let expected = products(queries, codes);
    let coded: Vec<Vec<Levels>> = queries.iter().map(|query| levels(query)).collect();
    let coded: Vec<&[Levels]> = coded.iter().map(|query| &**query).collect();
    for kernels in Family::available() {
        let mut out = vec![i32::MIN; expected.len()];
        (kernels.code_dots)(&coded, codes, &mut out);
        let (width, count) = (queries[0].len(), expected.len());
        assert_eq!(out, expected, "{} {width}: {} x {count}", kernels.family.name(), queries.len());
        let Some(packed_dots) = kernels.packed_dots else { continue };
        let mut packed = vec![9; 7];
        pack(codes, width / 2, &mut packed);
        out.fill(i32::MIN);
        packed_dots(&coded, &packed, &mut out);
        assert_eq!(out, expected, "{} packed {width}: {} x {count}", kernels.family.name(), queries.len());
        for bytes in [packed.len() + 1, packed.len().wrapping_sub(1)] {
            packed.resize(bytes.min(1 << 23), 0);
            let call = || packed_dots(&coded, &packed, &mut out.clone());
            catch_unwind(AssertUnwindSafe(call)).expect_err("another length");
        }
    }
}

#[test]
fn products_of_codes_are_exact() {
    let mut random = Random(41);
    let numbers: Vec<i8> =
        (0..20_000).map(|_| i8::try_from(random.below(255) as i64 - 127).expect("a level")).collect();
    let bytes: Vec<u8> = (0..10 * 600).map(|_| random.below(256).to_le_bytes()[0]).collect();
    for width in (64..=1152).step_by(64) {
        for count in 0..=9 {
            // One query, and every number of them that a kernel treats in another way.
            for queries in [1, 2 + (count + width / 64) % 16] {
                let (query_at, codes_at) = (random.below(64), random.below(64));
                let queries: Vec<&[i8]> = numbers[query_at..].chunks_exact(width).take(queries).collect();
                check_products(&queries, &bytes[codes_at..codes_at + count * width / 2]);
            }
        }
    }
}

#[test]
fn the_largest_products_of_codes_do_not_overflow() {
    for width in [1 << 16, 4160, 1024] {
        for (level, byte) in [(127i8, 0xffu8), (-127, 0xff), (127, 0), (-127, 0x0f)] {
            let (query, codes) = (vec![level; width], vec![byte; width / 2 * 5]);
            for queries in 1..=9 {
                check_products(&vec![&*query; queries], &codes);
            }
        }
    }
}

/// Products of signs are off by no more than their tables, and of every family the same. What is packed is found again.
#[test]
fn products_of_signs_are_near() {
    let mut random = Random(43);
    let all: Vec<i8> =
        (0..4224).map(|_| i8::try_from(random.below(255) as i64 - 127).expect("a level")).collect();
    let bytes: Vec<u8> = (0..70 * 528).map(|_| random.below(256).to_le_bytes()[0]).collect();
    let extremes = [vec![127i8; 4224], vec![-127; 4224]];
    for width in (64..=1280).step_by(64).chain([4096, 4160]) {
        for count in [0, 1, 15, 16, 31, 32, 33, 64, 70] {
            for query in [&all, &extremes[0], &extremes[1]] {
                let (query, code) = (&query[..width], width / 8);
                let rows: Vec<&[u8]> = bytes.chunks_exact(code).take(count).collect();
                let packed = pack_signs(&rows.concat(), code);
                assert_eq!(packed.len(), sign_bytes(count, code));
                let tables = SignTables::new(&levels(query));
                let mut products = vec![i32::MIN; count];
                sign_dots(&tables, &packed, &mut products);
                for (row, (signs, found)) in rows.iter().zip(&products).enumerate() {
                    assert_eq!(unpack_signs(&packed, code, row), *signs);
                    let there = (0..width).filter(|n| signs[n / 8] >> (n % 8) & 1 == 1);
                    let right: i32 = there.map(|n| i32::from(query[n])).sum();
                    assert!((found - right).abs() <= tables.error(), "{width}: {found} {right}");
                }
                for kernels in Family::available() {
                    let mut out = vec![i32::MIN; count];
                    (kernels.sign_dots)(&tables, &packed, &mut out);
                    assert_eq!(out, products, "{} {width} x {count}", kernels.family.name());
                    let (longer, mut out) = (vec![0; packed.len() + 1], vec![0; count]);
                    let call = || (kernels.sign_dots)(&tables, &longer, &mut out);
                    catch_unwind(AssertUnwindSafe(call)).expect_err("another length");
                }
            }
        }
    }
}

/// A code of signs says what it leaves out, and all families say the same.
#[test]
fn signs_of_a_vector_are_coded_with_their_error() {
    let mut random = Random(44);
    for width in [64, 192, 768] {
        for inner in [false, true] {
            let (vector, centre) = (numbers(&mut random, width, 1.0), numbers(&mut random, width, 0.5));
            let residual = Residual { vector: &vector, centre: &centre, inner };
            let mut signs = vec![0u8; width / 8];
            let of = encode_signs(&residual, &mut Scratch::new(width), &mut signs);
            let level = |n: usize| if signs[n / 8] >> (n % 8) & 1 == 1 { 1.0 } else { -1.0 };
            let (a, mut error, mut h, mut square) = (f64::from(of.a), 0.0, 0.0, 0.0);
            for n in 0..width {
                let (y, k) = (f64::from(vector[n]) - f64::from(centre[n]), f64::from(centre[n]));
                assert_eq!(level(n) > 0.0, vector[n] >= centre[n]);
                let e = y - a * level(n);
                error += e * e;
                square += y * y;
                h += if inner { k * e } else { -a * k * level(n) };
            }
            let h = if inner { h } else { h - square / 2.0 };
            assert!(
                (error.sqrt()..error.sqrt() * (1.0 + 1e-6)).contains(&f64::from(of.e)),
                "{width} {error}"
            );
            assert!((h - f64::from(of.h)).abs() < 1e-4 * (1.0 + h.abs()), "{width} {h}");
            for kernels in Family::available() {
                let mut again = vec![1u8; width / 8];
                let other = (kernels.encode_signs)(&residual, &mut Scratch::new(width), &mut again);
                assert_eq!((other, &again), (of, &signs), "{}", kernels.family.name());
            }
            let same = Residual { vector: &centre, centre: &centre, inner };
            assert_eq!(encode_signs(&same, &mut Scratch::new(width), &mut signs), Correction::default());
            let unknown = Residual { vector: &vec![f32::NAN; width], centre: &centre, inner };
            assert_eq!(encode_signs(&unknown, &mut Scratch::new(width), &mut signs).e, f32::INFINITY);
        }
    }
}

#[test]
fn wrong_lengths_of_codes_are_refused() {
    for kernels in Family::available() {
        for (groups, bytes, count) in [
            (&[1][..], 64, 1),
            (&[1], 31, 1),
            (&[1], 33, 1),
            (&[1], 96, 4),
            (&[0], 0, 1),
            (&[], 0, 0),
            (&[], 32, 1),
            (&[1, 1], 32, 1),
            (&[1, 1], 32, 3),
            (&[1, 2], 32, 2),
            (&[2, 1], 64, 2),
            (&[1, 1, 1, 1, 1, 1, 1, 1, 1], 32, 8),
        ] {
            let queries: Vec<Vec<Levels>> = groups.iter().map(|&n| vec![Levels([1; GROUP]); n]).collect();
            let queries: Vec<&[Levels]> = queries.iter().map(|query| &**query).collect();
            let (codes, mut out) = (vec![1u8; bytes], vec![0; count]);
            let call = || (kernels.code_dots)(&queries, &codes, &mut out);
            catch_unwind(AssertUnwindSafe(call)).expect_err("another length");
        }
        let scratch = |n: usize| Scratch::new(n);
        for (vector, centre, components, bytes) in
            [(64, 128, 64, 32), (64, 64, 128, 32), (64, 64, 64, 31), (96, 96, 96, 48), (128, 64, 128, 64)]
        {
            let (vector, centre) = (vec![1.0; vector], vec![0.5; centre]);
            let (mut scratch, mut out) = (scratch(components), vec![0; bytes]);
            let residual = Residual { vector: &vector, centre: &centre, inner: false };
            let call = || (kernels.encode)(&residual, &mut scratch, &mut out);
            catch_unwind(AssertUnwindSafe(call)).expect_err("another length");
        }
        for len in [3, 6, 12, 100] {
            let mut values = vec![1.0; len];
            catch_unwind(AssertUnwindSafe(|| (kernels.hadamard)(&mut values))).expect_err("no power of two");
        }
    }
}

/// The sums are those of one stage after the other, to the bit.
#[test]
fn the_transform_is_the_plain_one() {
    let mut random = Random(73);
    for len in (0..11).map(|bits| 1 << bits) {
        let values: Vec<f32> = (0..len).map(|_| random.below(2_000_001) as f32 / 1e6 - 1.0).collect();
        let (mut plain, mut half) = (values.clone(), len / 2);
        while half > 0 {
            plain = (0..len)
                .map(|n| if n & half == 0 { plain[n] + plain[n + half] } else { plain[n - half] - plain[n] })
                .collect();
            half /= 2;
        }
        for kernels in Family::available() {
            let mut found = values.clone();
            (kernels.hadamard)(&mut found);
            assert!(found.iter().zip(&plain).all(|(a, b)| a.to_bits() == b.to_bits()), "{len}");
        }
    }
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

#[test]
fn scores_are_those_of_plain_arithmetic() {
    let mut random = Random(42);
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, f32::from_bits(1), f32::MAX];
    for round in 0..400 {
        let count = round % (SCORED + 1);
        let mut some = |n| -> Vec<f32> {
            let mut values = numbers(&mut random, n, 3.0);
            if round % 5 == 0 {
                values.iter_mut().for_each(|value| {
                    if random.below(4) == 0 {
                        *value = odd[random.below(odd.len())];
                    }
                });
            }
            values
        };
        let (a, h, e, by) = (some(count + 3), some(count + 3), some(count + 3), some(5));
        let beyond = if round % 2 == 0 { some(count + 3) } else { Vec::new() };
        let dots: Vec<i32> =
            (0..count).map(|_| i32::try_from(random.below(1 << 20)).expect("small") - (1 << 19)).collect();
        let (half_step, share, margin) = (by[0], by[1], by[2]);
        let by = Scoring { half_step, bias: 777, share, margin, beyond: by[3], least: by[4] * 1e6 };
        let of = Corrections { a: &a, h: &h, e: &e, beyond: &beyond }.part(round % 3..round % 3 + count);
        let mut expected = Vec::new();
        let mut kept = 0u128;
        for (n, &dot) in dots.iter().enumerate() {
            let estimate = of.a[n] * (by.half_step * (2 * dot - 777) as f32) + by.share * of.h[n];
            let beyond = if beyond.is_empty() { 0.0 } else { of.beyond[n] };
            let bound = estimate + of.e[n] * by.margin + beyond * by.beyond;
            // Not the negation of `>=`: what is not a number is kept.
            let is_less = bound < by.least;
            assert_eq!(is_kept(&by, estimate, of.e[n], beyond), !is_less);
            kept |= u128::from(!is_less) << n;
            expected.push(estimate);
        }
        for kernels in Family::available() {
            let mut estimates = vec![7.0; count];
            assert_eq!((kernels.score)(&by, &dots, of, &mut estimates), kept, "{}", kernels.family.name());
            assert!(estimates.iter().zip(&expected).all(|(&a, &b)| same(a, b)), "{}", kernels.family.name());
        }
    }
}

#[test]
fn reflections_are_those_of_plain_arithmetic() {
    let mut random = Random(47);
    for len in (8..70).chain([128, 383, 384, 1000]) {
        let mut wide =
            |scale| numbers(&mut random, len, scale).into_iter().map(f64::from).collect::<Vec<_>>();
        let x = wide(5.0);
        let mut vectors: Vec<Vec<f64>> = (0..REFLECTED).map(|_| wide(1.0)).collect();
        // Two of one direction, too.
        vectors[5] = vectors[2].clone();
        let gram = array::from_fn(|a| array::from_fn(|b| product(&vectors[a], &vectors[b])));
        let scales = array::from_fn(|n| 2.0 / product(&vectors[n], &vectors[n]));
        #[expect(clippy::cast_possible_truncation, reason = "made of f32")]
        let narrow = vectors.iter().flatten().map(|&x| x as f32).collect();
        let by = Reflected { vectors: narrow, scales, gram };
        let mut right = x.clone();
        for u in &vectors {
            let along = 2.0 / product(u, u) * product(u, &right);
            right.iter_mut().zip(u).for_each(|(x, u)| *x -= along * u);
        }
        for kernels in Family::available() {
            let mut out = x.clone();
            let check = |out: &[f64], right: &[f64]| {
                let off = out.iter().zip(right).map(|(out, right)| (out - right).abs()).fold(0.0, f64::max);
                assert!(off <= 1e-11, "{} {len}: {off}", kernels.family.name());
            };
            (kernels.reflect)(&by, true, &mut out);
            check(&out, &right);
            (kernels.reflect)(&by, false, &mut out);
            check(&out, &x);
            for other in [0, len - 1, len + 1] {
                let call = || (kernels.reflect)(&by, true, &mut vec![0.0; other]);
                catch_unwind(AssertUnwindSafe(call)).expect_err("another length");
            }
        }
    }
}

/// By its definition, in f64.
fn transformed(values: &[f32]) -> Vec<f64> {
    let sign = |i: usize, j: usize| if (i & j).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
    let sum = |i| values.iter().enumerate().map(|(j, &x)| f64::from(x) * sign(i, j)).sum();
    (0..values.len()).map(sum).collect()
}

#[test]
fn transforms_are_those_of_the_definition() {
    let mut random = Random(43);
    for log in 0..=10 {
        let n = 1 << log;
        for scale in [1.0, 1e-42, 1e30] {
            let values = numbers(&mut random, n + 5, scale);
            let values = &values[log % 5..log % 5 + n];
            let (expected, all) =
                (transformed(values), values.iter().map(|x| f64::from(x.abs())).sum::<f64>());
            let mut first: Option<Vec<f32>> = None;
            for kernels in Family::available() {
                let mut room = vec![0.0; n + 5];
                let out = &mut room[log % 5..log % 5 + n];
                out.copy_from_slice(values);
                (kernels.hadamard)(out);
                let bound = f64::from(u8::try_from(log).expect("small")) * UNIT * 1.01 * all;
                let near = |(&a, &b): (&f32, &f64)| (f64::from(a) - b).abs() <= bound;
                assert!(out.iter().zip(&expected).all(near), "{} {n} {scale}", kernels.family.name());
                // Sums are all there is in it: every family has the same bits.
                assert_eq!(first.get_or_insert_with(|| out.to_vec()), out);
                let (head, tail) = (&room[..log % 5], &room[log % 5 + n..]);
                assert!(head.iter().chain(tail).all(|&x| x == 0.0), "nothing beside it is written");
            }
        }
    }
}

/// What the file says of a, h and e, in f64; and that they say as much as they can.
fn check_code(residual: &Residual<'_>, code: &[u8], correction: Correction, what: &str) {
    let Correction { a, h, e } = correction;
    if e == f32::INFINITY {
        return;
    }
    let (scale, n) = (f64::from(a), residual.vector.len());
    let (mut error, mut square, mut along, mut right, mut terms, mut of_levels) =
        (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for component in 0..n {
        let (z, k) = (f64::from(residual.vector[component]), f64::from(residual.centre[component]));
        let (y, level) = (z - k, f64::from(code_of(code, component)) - 7.5);
        let left = y - scale * level;
        let share = if residual.inner { k * left } else { -scale * k * level };
        (error, square, along) = (error + left * left, square + y * y, along + y * left);
        (right, terms, of_levels) = (right + share, terms + share.abs(), of_levels + level * level);
    }
    if !residual.inner {
        right -= square / 2.0;
    }
    let tiny = f64::from(f32::MIN_POSITIVE);
    let (error, radius) = (error.sqrt(), square.sqrt());
    assert!(error <= f64::from(e) * (1.0 + 1e-14 * n as f64), "{what}: |e| {error:e} {e:e}");
    assert!(f64::from(e) <= error * (1.0 + 1e-6) + tiny, "{what}: |e| {error:e} {e:e} is not near");
    let lost = UNIT * right.abs() + 1e-12 * (terms + square) + tiny;
    assert!((right - f64::from(h)).abs() <= lost, "{what}: h {right:e} {h:e}");
    assert!(along.abs() <= (UNIT + 1e-12) * square + tiny, "{what}: τ {along:e}, {square:e}");
    assert!(scale * of_levels.sqrt() <= 4.0005 * radius + tiny, "{what}: {scale:e} {radius:e}");
}

/// Vectors and centres of every kind that a code may be asked for.
fn residual(random: &mut Random, kind: usize, n: usize) -> (Vec<f32>, Vec<f32>) {
    let (mut vector, mut centre) = (numbers(random, n, 1.0), numbers(random, n, 1.0));
    match kind {
        0 => {}
        1 => vector.clone_from(&centre),
        2 => (vector[random.below(n)], centre[0]) = (1e12, -3.0),
        3 => vector = numbers(random, n, 1e-41),
        4 => (vector, centre) = (numbers(random, n, 1e-41), vec![0.0; n]),
        5 => (vector, centre) = (numbers(random, n, 1e17), numbers(random, n, 1e17)),
        6 => (vector, centre) = (vec![3.0; n], vec![2.0; n]),
        7 => vector = centre.iter().map(|x| x.next_up()).collect(),
        8 => (vector, centre) = (numbers(random, n, 1e-22), vec![0.0; n]),
        9 => vector[random.below(n)] = f32::NAN,
        10 => vector = vec![f32::NAN; n],
        11 => centre[random.below(n)] = f32::INFINITY,
        12 => vector = vec![f32::MAX; n],
        13 => {
            vector = vec![0.0; n];
            centre = vec![0.0; n];
            vector[random.below(n)] = f32::from_bits(1);
        }
        14 => {
            (vector, centre) = (vec![0.0; n], vec![0.0; n]);
            vector[random.below(n)] = f32::NAN;
        }
        _ => vector.iter_mut().enumerate().for_each(|(n, x)| *x *= 0.9f32.powf(n as f32)),
    }
    (vector, centre)
}
const KINDS: usize = 16;

#[test]
fn codes_say_what_they_leave_out() {
    let mut random = Random(44);
    for n in (64..=1152).step_by(64).chain([4096]) {
        let (mut scratch, mut close) = (Scratch::new(n), 0);
        for kind in (0..KINDS).flat_map(|kind| [kind; 3]) {
            let (vector, centre) = residual(&mut random, kind, n);
            for inner in [false, true] {
                let residual = Residual { vector: &vector, centre: &centre, inner };
                let mut first: Option<(Vec<u8>, Correction)> = None;
                for kernels in Family::available() {
                    let what = format!("{} kind {kind}, {n}, {inner}", kernels.family.name());
                    let mut room = vec![0xaa; n / 2 + 3];
                    let correction = (kernels.encode)(&residual, &mut scratch, &mut room[1..=n / 2]);
                    assert_eq!((room[0], &room[n / 2 + 1..]), (0xaa, &[0xaa; 2][..]), "{what}");
                    let code = room[1..=n / 2].to_vec();
                    check_code(&residual, &code, correction, &what);
                    let is_number = vector.iter().chain(&centre).all(|x| x.is_finite());
                    assert!(is_number || correction.e == f32::INFINITY, "{what}: nothing is known");
                    if matches!(kind, 0 | 5 | 6 | 7) {
                        assert!(correction.e < f32::INFINITY, "{what}: has a code");
                        close += 1;
                    }
                    // No sum of it is fused: every family makes the same code.
                    let (code_of_first, of_first) = first.get_or_insert_with(|| (code.clone(), correction));
                    assert_eq!((&*code_of_first, *of_first), (&code, correction), "{what}");
                }
            }
        }
        assert!(close > 0);
    }
}
