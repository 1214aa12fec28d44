package lua

import (
	"encoding/base64"
	"encoding/hex"
	"strings"

	vm "github.com/yuin/gopher-lua"

	"lorikeet/formatters/cayennelpp"
	"lorikeet/messages"
)

func hexEncode(l *vm.LState) int {
	b := bytesArg(l, 1)
	runOf(l).mustMake(l, 2*len(b))
	l.Push(vm.LString(hex.EncodeToString(b)))
	return 1
}

// hexDecode reads digits of either case, with spaces, dashes and colons between bytes or not, and gives a string.
func hexDecode(l *vm.LState) int {
	s := l.CheckString(1)
	runOf(l).mustSpend(l, len(s)/16)
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "-", "", ":", "").Replace(s))
	if err != nil {
		l.RaiseError("hex.decode: %s", err.Error())
	}
	l.Push(vm.LString(b))
	return 1
}

func base64Encode(l *vm.LState) int {
	b := bytesArg(l, 1)
	runOf(l).mustMake(l, base64.StdEncoding.EncodedLen(len(b)))
	l.Push(vm.LString(base64.StdEncoding.EncodeToString(b)))
	return 1
}

// base64Decode reads standard and URL-safe base64, padded or not, and gives a string.
func base64Decode(l *vm.LState) int {
	s := l.CheckString(1)
	runOf(l).mustSpend(l, len(s)/16)
	b, err := base64.RawStdEncoding.DecodeString(strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "=")))
	if err != nil {
		l.RaiseError("base64.decode: %s", err.Error())
	}
	l.Push(vm.LString(b))
	return 1
}

func jsonEncode(l *vm.LState) int {
	w := writer{run: runOf(l), root: "value"}
	if err := w.value(l.CheckAny(1)); err != nil {
		l.RaiseError("json.encode: %s", err.Error())
	}
	w.mustMake(l, len(w.buf))
	l.Push(vm.LString(w.buf))
	return 1
}

func jsonDecode(l *vm.LState) int {
	v, err := readJSON(l, runOf(l), l.CheckString(1))
	if err != nil {
		l.RaiseError("json.decode: %s", err.Error())
	}
	l.Push(v)
	return 1
}

func jsonArray(l *vm.LState) int  { return setShape(l, arrayShape) }
func jsonObject(l *vm.LState) int { return setShape(l, objectShape) }

// setShape remembers how the table is to be written and gives it back; without a table it makes an empty one.
func setShape(l *vm.LState, s shape) int {
	if l.GetTop() == 0 {
		l.Push(l.CreateTable(0, 0))
	}
	runOf(l).setShape(l.CheckTable(1), s)
	l.SetTop(1)
	return 1
}

// cayenneDecode gives the table that the formatter FORMATTER_CAYENNELPP would give for an uplink.
func cayenneDecode(l *vm.LState) int {
	b := bytesArg(l, 1)
	out, err := cayennelpp.DecodeUplink(messages.DecodeInput{Bytes: b})
	if err != nil {
		l.RaiseError("cayennelpp.decode: %s", err.Error())
	}
	v, err := readJSON(l, runOf(l), string(out.Data))
	if err != nil {
		l.RaiseError("%s", err.Error())
	}
	l.Push(v)
	return 1
}

// cayenneEncode gives the string that the formatter would send for a table, with its keys sorted.
func cayenneEncode(l *vm.LState) int {
	w := writer{run: runOf(l), root: "value"}
	data, err := w.object(l.CheckTable(1))
	if err != nil {
		l.RaiseError("cayennelpp.encode: %s", err.Error())
	}
	out, err := cayennelpp.EncodeDownlink(messages.EncodeInput{Data: data})
	if err != nil {
		l.RaiseError("cayennelpp.encode: %s", err.Error())
	}
	l.Push(vm.LString(out.Bytes))
	return 1
}
