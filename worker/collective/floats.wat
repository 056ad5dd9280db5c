;; Sums and roundings over floats, 128 bits at a time: floats.ts copies blocks in and out.
;;
;;     bytes 0 - 65535          $A  16384 f32
;;     bytes 65536 - 131071     $B  16384 f32, or as many bf16 in its first half
;;
;; $floats is the number of floats to work on, rounded up to a multiple of 8 by the loops: what lies
;; beyond is of no meaning, before and after.
(module
  (memory (export "memory") 2)
  (global $B i32 (i32.const 65536))

  ;; A += B
  (func (export "add") (param $floats i32)
    (local $at i32) (local $end i32)
    (local.set $end (i32.shl (local.get $floats) (i32.const 2)))
    (loop $next
      (v128.store (local.get $at)
        (f32x4.add (v128.load (local.get $at)) (v128.load offset=65536 (local.get $at))))
      (v128.store offset=16 (local.get $at)
        (f32x4.add
          (v128.load offset=16 (local.get $at)) (v128.load offset=65552 (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 32)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end)))))

  ;; A += B, where B is bf16
  (func (export "addHalves") (param $floats i32)
    (local $at i32) (local $end i32) (local $from i32) (local $halves v128)
    (local.set $end (i32.shl (local.get $floats) (i32.const 2)))
    (local.set $from (global.get $B))
    (loop $next
      (local.set $halves (v128.load (local.get $from)))
      (v128.store (local.get $at)
        (f32x4.add (v128.load (local.get $at)) (i32x4.shl (i32x4.extend_low_i16x8_u (local.get $halves)) (i32.const 16))))
      (v128.store offset=16 (local.get $at)
        (f32x4.add (v128.load offset=16 (local.get $at)) (i32x4.shl (i32x4.extend_high_i16x8_u (local.get $halves)) (i32.const 16))))
      (local.set $from (i32.add (local.get $from) (i32.const 16)))
      (local.set $at (i32.add (local.get $at) (i32.const 32)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end)))))

  ;; A = B, where B is bf16
  (func (export "widen") (param $floats i32)
    (local $at i32) (local $end i32) (local $from i32) (local $halves v128)
    (local.set $end (i32.shl (local.get $floats) (i32.const 2)))
    (local.set $from (global.get $B))
    (loop $next
      (local.set $halves (v128.load (local.get $from)))
      (v128.store (local.get $at) (i32x4.shl (i32x4.extend_low_i16x8_u (local.get $halves)) (i32.const 16)))
      (v128.store offset=16 (local.get $at) (i32x4.shl (i32x4.extend_high_i16x8_u (local.get $halves)) (i32.const 16)))
      (local.set $from (i32.add (local.get $from) (i32.const 16)))
      (local.set $at (i32.add (local.get $at) (i32.const 32)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end)))))

  ;; B = A in bf16: the upper 16 bits, rounded to nearest, ties to even. Rounding up could turn a NaN
  ;; into an infinity, or wrap it to zero: it is cut instead, and kept a quiet NaN.
  (func (export "round") (param $floats i32)
    (local $at i32) (local $end i32) (local $to i32)
    (local $f v128) (local $cut v128) (local $first v128)
    (local.set $end (i32.shl (local.get $floats) (i32.const 2)))
    (local.set $to (global.get $B))
    (loop $next
      (local.set $f (v128.load (local.get $at)))
      (local.set $cut (i32x4.shr_u (local.get $f) (i32.const 16)))
      (local.set $first
        (v128.bitselect
          (v128.or (local.get $cut) (v128.const i32x4 0x40 0x40 0x40 0x40))
          (i32x4.shr_u
            (i32x4.add
              (i32x4.add (local.get $f) (v128.const i32x4 0x7fff 0x7fff 0x7fff 0x7fff))
              (v128.and (local.get $cut) (v128.const i32x4 1 1 1 1)))
            (i32.const 16))
          (f32x4.ne (local.get $f) (local.get $f))))
      (local.set $f (v128.load offset=16 (local.get $at)))
      (local.set $cut (i32x4.shr_u (local.get $f) (i32.const 16)))
      (v128.store (local.get $to)
        (i16x8.narrow_i32x4_u (local.get $first) (v128.bitselect
          (v128.or (local.get $cut) (v128.const i32x4 0x40 0x40 0x40 0x40))
          (i32x4.shr_u
            (i32x4.add
              (i32x4.add (local.get $f) (v128.const i32x4 0x7fff 0x7fff 0x7fff 0x7fff))
              (v128.and (local.get $cut) (v128.const i32x4 1 1 1 1)))
            (i32.const 16))
          (f32x4.ne (local.get $f) (local.get $f)))))
      (local.set $to (i32.add (local.get $to) (i32.const 16)))
      (local.set $at (i32.add (local.get $at) (i32.const 32)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end)))))

  ;; A = what `widen` makes of what `round` makes of A
  (func (export "settle") (param $floats i32)
    (local $at i32) (local $end i32) (local $f v128)
    (local.set $end (i32.shl (local.get $floats) (i32.const 2)))
    (loop $next
      (local.set $f (v128.load (local.get $at)))
      (v128.store (local.get $at)
        (v128.bitselect
          (v128.or (v128.and (local.get $f) (v128.const i32x4 0xffff0000 0xffff0000 0xffff0000 0xffff0000))
            (v128.const i32x4 0x400000 0x400000 0x400000 0x400000))
          (v128.and
            (i32x4.add
              (i32x4.add (local.get $f) (v128.const i32x4 0x7fff 0x7fff 0x7fff 0x7fff))
              (v128.and
                (i32x4.shr_u (local.get $f) (i32.const 16)) (v128.const i32x4 1 1 1 1)))
            (v128.const i32x4 0xffff0000 0xffff0000 0xffff0000 0xffff0000))
          (f32x4.ne (local.get $f) (local.get $f))))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end))))))
