package lua

import (
	"math"
	"math/bits"
	"math/rand/v2"

	vm "github.com/yuin/gopher-lua"
)

func newMath() map[string]vm.LValue {
	out := upstream(vm.OpenMath, "math", "abs", "acos", "asin", "atan", "atan2", "ceil", "cos", "cosh", "deg", "exp", "floor", "fmod", "frexp",
		"ldexp", "log10", "max", "min", "mod", "modf", "pow", "rad", "sin", "sinh", "sqrt", "tan", "tanh")
	out["random"] = &vm.LFunction{IsG: true, GFunction: mathRandom}
	out["log"] = &vm.LFunction{IsG: true, GFunction: mathLog}
	out["pi"], out["huge"] = vm.LNumber(math.Pi), vm.LNumber(math.Inf(1))
	return out
}

// mathLog takes a base, as later versions do: 5.1 passes it over in silence, which gives people wrong values.
func mathLog(l *vm.LState) int {
	x := float64(l.CheckNumber(1))
	switch base := float64(l.OptNumber(2, math.E)); base {
	case math.E:
		l.Push(vm.LNumber(math.Log(x)))
	case 2:
		l.Push(vm.LNumber(math.Log2(x)))
	case 10:
		l.Push(vm.LNumber(math.Log10(x)))
	default:
		l.Push(vm.LNumber(math.Log(x) / math.Log(base)))
	}
	return 1
}

func mathRandom(l *vm.LState) int {
	if l.GetTop() == 0 {
		l.Push(vm.LNumber(rand.Float64()))
		return 1
	}
	low, high := vm.LNumber(1), l.CheckNumber(1)
	if l.GetTop() > 1 {
		low, high = high, l.CheckNumber(2)
	}
	low, high = vm.LNumber(math.Floor(float64(low))), vm.LNumber(math.Floor(float64(high)))
	if !(low <= high) || high-low > 1<<53 {
		l.RaiseError("the interval of random is empty or too large")
	}
	l.Push(low + vm.LNumber(rand.Uint64N(uint64(high-low)+1)))
	return 1
}

// bit32Functions are those of Lua 5.2: arguments are taken modulo 2^32, results are from 0 to 2^32-1.
var bit32Functions = functions(map[string]vm.LGFunction{
	"band": bitFold(math.MaxUint32, func(a, b uint32) uint32 { return a & b }),
	"bor":  bitFold(0, func(a, b uint32) uint32 { return a | b }),
	"bxor": bitFold(0, func(a, b uint32) uint32 { return a ^ b }),
	"bnot": func(l *vm.LState) int { return pushBits(l, ^bitArg(l, 1)) },
	"btest": func(l *vm.LState) int {
		all := uint32(math.MaxUint32)
		for i := 1; i <= l.GetTop(); i++ {
			all &= bitArg(l, i)
		}
		l.Push(vm.LBool(all != 0))
		return 1
	},
	"lshift":  bitShift(func(v uint32, n int) uint32 { return shiftLeft(v, n) }),
	"rshift":  bitShift(func(v uint32, n int) uint32 { return shiftLeft(v, -n) }),
	"arshift": bitShift(arithmeticShift),
	"lrotate": bitShift(bits.RotateLeft32),
	"rrotate": bitShift(func(v uint32, n int) uint32 { return bits.RotateLeft32(v, -n) }),
	"extract": func(l *vm.LState) int {
		at, mask := bitField(l, 2)
		return pushBits(l, bitArg(l, 1)>>at&mask)
	},
	"replace": func(l *vm.LState) int {
		at, mask := bitField(l, 3)
		return pushBits(l, bitArg(l, 1)&^(mask<<at)|bitArg(l, 2)&mask<<at)
	},
})

func pushBits(l *vm.LState, v uint32) int {
	l.Push(vm.LNumber(v))
	return 1
}

func bitArg(l *vm.LState, i int) uint32 {
	v := math.Mod(math.Floor(float64(l.CheckNumber(i))), 1<<32)
	if v < 0 {
		v += 1 << 32
	}
	return uint32(v)
}

func bitFold(start uint32, f func(a, b uint32) uint32) vm.LGFunction {
	return func(l *vm.LState) int {
		v := start
		for i := 1; i <= l.GetTop(); i++ {
			v = f(v, bitArg(l, i))
		}
		return pushBits(l, v)
	}
}

func bitShift(f func(v uint32, n int) uint32) vm.LGFunction {
	return func(l *vm.LState) int {
		n := float64(l.CheckNumber(2))
		return pushBits(l, f(bitArg(l, 1), int(math.Max(-1<<31, math.Min(1<<31, n)))))
	}
}

// shiftLeft shifts right if n is negative.
func shiftLeft(v uint32, n int) uint32 {
	if n < 0 {
		return v >> uint(-n)
	}
	return v << uint(n)
}

func arithmeticShift(v uint32, n int) uint32 {
	if n < 0 {
		return v << uint(-n)
	}
	return uint32(int32(v) >> uint(n))
}

// bitField reads the position and the width, 1 if it is missing, of a field.
func bitField(l *vm.LState, i int) (at int, mask uint32) {
	at, width := l.CheckInt(i), l.OptInt(i+1, 1)
	switch {
	case at < 0:
		l.ArgError(i, "field cannot be negative")
	case width < 1:
		l.ArgError(i+1, "width must be positive")
	case at+width > 32 || width > 32 || at > 31:
		l.RaiseError("trying to access non-existent bits")
	}
	return at, uint32(1<<width - 1)
}
