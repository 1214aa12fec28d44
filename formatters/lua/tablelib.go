package lua

import (
	"sort"
	"strings"

	vm "github.com/yuin/gopher-lua"
)

func tableConcat(l *vm.LState) int {
	t := l.CheckTable(1)
	separator := l.OptString(2, "")
	from, to := l.OptInt(3, 1), l.OptInt(4, t.Len())
	r := runOf(l)
	var parts []string
	size := 0
	for i := from; i <= to; i++ {
		v := t.RawGet(vm.LNumber(i))
		if !vm.LVCanConvToString(v) {
			l.RaiseError("invalid value (%s) at index %d in table for concat", v.Type(), i)
		}
		parts = append(parts, v.String())
		if size += len(parts[len(parts)-1]) + len(separator); size > maxString+len(separator) {
			break // mustMake refuses it
		}
		r.mustSpend(l, 1)
	}
	if len(parts) == 0 {
		l.Push(vm.LString(""))
		return 1
	}
	r.mustMake(l, size-len(separator))
	l.Push(vm.LString(strings.Join(parts, separator)))
	return 1
}

func tableGetn(l *vm.LState) int {
	l.Push(vm.LNumber(l.CheckTable(1).Len()))
	return 1
}

func tableMaxn(l *vm.LState) int {
	highest := vm.LNumber(0)
	l.CheckTable(1).ForEach(func(k, _ vm.LValue) {
		if n, ok := k.(vm.LNumber); ok {
			highest = max(highest, n)
		}
	})
	l.Push(highest)
	return 1
}

func tableInsert(l *vm.LState) int {
	t := l.CheckTable(1)
	n := t.Len()
	if n >= maxArray-1 {
		l.RaiseError("a table of more than %d elements is too long", maxArray-1)
	}
	switch l.GetTop() {
	case 2:
		t.RawSetInt(n+1, l.Get(2))
	case 3:
		at := l.CheckInt(2)
		if at < 1 || at > n+1 {
			l.ArgError(2, "position out of bounds")
		}
		if at == n+1 {
			t.RawSetInt(at, l.Get(3))
			break
		}
		runOf(l).mustSpend(l, (n-at)/16)
		t.Insert(at, l.Get(3))
	default:
		l.RaiseError("wrong number of arguments to 'insert'")
	}
	return 0
}

func tableRemove(l *vm.LState) int {
	t := l.CheckTable(1)
	n := t.Len()
	at := l.OptInt(2, n)
	if at < 1 || at > n {
		l.Push(vm.LNil)
		return 1
	}
	runOf(l).mustSpend(l, (n-at)/16)
	l.Push(t.Remove(at))
	return 1
}

func tablePack(l *vm.LState) int {
	t := l.CreateTable(l.GetTop(), 1)
	for i := 1; i <= l.GetTop(); i++ {
		t.RawSetInt(i, l.Get(i))
	}
	t.RawSetString("n", vm.LNumber(l.GetTop()))
	l.Push(t)
	return 1
}

func tableUnpack(l *vm.LState) int {
	t := l.CheckTable(1)
	from, to := l.OptNumber(2, 1), l.OptNumber(3, vm.LNumber(t.Len()))
	if to < from {
		return 0
	}
	if !(to-from < maxResults) {
		l.RaiseError("too many results to unpack: at most %d", maxResults)
	}
	n := 0
	for i := from; i <= to; i++ {
		l.Push(t.RawGet(i))
		n++
	}
	runOf(l).mustSpend(l, n)
	return n
}

func tableSort(l *vm.LState) int {
	t := l.CheckTable(1)
	s := &sorter{l: l, run: runOf(l)}
	if l.GetTop() > 1 {
		s.less = l.CheckFunction(2)
	}
	for i := range t.Len() {
		s.values = append(s.values, t.RawGetInt(i+1))
	}
	sort.Sort(s)
	for i, v := range s.values {
		t.RawSetInt(i+1, v)
	}
	return 0
}

// sorter raises what comparisons raise. An order that contradicts itself gives some order.
type sorter struct {
	l      *vm.LState
	run    *run
	less   *vm.LFunction
	values []vm.LValue
}

func (s *sorter) Len() int      { return len(s.values) }
func (s *sorter) Swap(i, j int) { s.values[i], s.values[j] = s.values[j], s.values[i] }

func (s *sorter) Less(i, j int) bool {
	a, b := s.values[i], s.values[j]
	if s.less != nil {
		s.l.Push(s.less)
		s.l.Push(a)
		s.l.Push(b)
		s.l.Call(2, 1)
		yes := s.l.ToBool(-1)
		s.l.Pop(1)
		return yes
	}
	steps := 1
	if text, ok := a.(vm.LString); ok {
		steps += len(text) / 16
	}
	s.run.mustSpend(s.l, steps)
	return s.l.LessThan(a, b)
}
