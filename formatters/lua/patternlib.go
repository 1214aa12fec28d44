package lua

import (
	"strings"

	vm "github.com/yuin/gopher-lua"
)

const patternSpecials = "^$*+?.([%-"

func newPattern(l *vm.LState, subject, text string) *pattern {
	return &pattern{subject: subject, pattern: text, spend: runOf(l).spend}
}

// mustFind is find for library functions.
func (p *pattern) mustFind(l *vm.LState, from int) (start, end int) {
	start, end, err := p.find(from)
	if err != nil {
		l.RaiseError("%s", err.Error())
	}
	return start, end
}

// pushCaptures pushes the captures, or the whole match if there are none and whole is set.
func (p *pattern) pushCaptures(l *vm.LState, start, end int, whole bool) int {
	if p.level == 0 && whole {
		l.Push(vm.LString(p.subject[start:end]))
		return 1
	}
	for i := range p.level {
		l.Push(p.captured(i))
	}
	return p.level
}

func (p *pattern) captured(i int) vm.LValue {
	c := p.captures[i]
	if c.length == capturePosition {
		return vm.LNumber(c.start + 1)
	}
	return vm.LString(p.subject[c.start:][:c.length])
}

// startOffset turns the position of argument i, which may count from the end, into an offset.
func startOffset(l *vm.LState, i, length int) int {
	at := l.OptInt(i, 1)
	if at < 0 {
		at = max(length+at+1, 1)
	}
	return min(max(at, 1)-1, length)
}

func stringFind(l *vm.LState) int  { return findOrMatch(l, true) }
func stringMatch(l *vm.LState) int { return findOrMatch(l, false) }

func findOrMatch(l *vm.LState, find bool) int {
	s, text := l.CheckString(1), l.CheckString(2)
	from := startOffset(l, 3, len(s))
	if find && (l.ToBool(4) || !strings.ContainsAny(text, patternSpecials)) {
		runOf(l).mustSpend(l, (len(s)-from)/16)
		at := strings.Index(s[from:], text)
		if at < 0 {
			l.Push(vm.LNil)
			return 1
		}
		l.Push(vm.LNumber(from + at + 1))
		l.Push(vm.LNumber(from + at + len(text)))
		return 2
	}
	p := newPattern(l, s, text)
	start, end := p.mustFind(l, from)
	switch {
	case start == noMatch:
		l.Push(vm.LNil)
		return 1
	case !find:
		return p.pushCaptures(l, start, end, true)
	}
	l.Push(vm.LNumber(start + 1))
	l.Push(vm.LNumber(end))
	return 2 + p.pushCaptures(l, start, end, false)
}

// stringGmatch gives an iterator. In it ^ has no special meaning, as in Lua 5.1.
func stringGmatch(l *vm.LState) int {
	p := newPattern(l, l.CheckString(1), l.CheckString(2))
	next := 0
	l.Push(l.NewFunction(func(l *vm.LState) int {
		for s := next; s <= len(p.subject); s++ {
			end := p.at(s, false)
			if p.err != nil {
				l.RaiseError("%s", p.err.Error())
			}
			if end == noMatch {
				continue
			}
			next = end
			if end == s {
				next++ // an empty match, or the iterator would stay here
			}
			return p.pushCaptures(l, s, end, true)
		}
		next = len(p.subject) + 1
		return 0
	}))
	return 1
}

func stringGsub(l *vm.LState) int {
	s, text := l.CheckString(1), l.CheckString(2)
	with := l.Get(3)
	switch with.(type) {
	case vm.LString, vm.LNumber, *vm.LTable, *vm.LFunction:
	default:
		l.ArgError(3, "string, function or table expected, got "+with.Type().String())
	}
	most := l.OptInt(4, len(s)+1)
	p := newPattern(l, s, text)
	anchored := strings.HasPrefix(text, "^")
	var out []byte
	at, n := 0, 0
	for n < most {
		end := p.at(at, anchored)
		if p.err != nil {
			l.RaiseError("%s", p.err.Error())
		}
		if end != noMatch {
			n++
			before := len(out)
			out = p.appendReplacement(l, out, with, at, end)
			runOf(l).mustSpend(l, (len(out)-before)/16)
			mustFit(l, len(out))
		}
		switch {
		case end != noMatch && end > at:
			at = end
		case at < len(s):
			out = append(out, s[at])
			at++
		default:
			most = n // the end
		}
		if anchored {
			break
		}
	}
	runOf(l).mustMake(l, len(out)+len(s)-at)
	l.Push(vm.LString(append(out, s[at:]...)))
	l.Push(vm.LNumber(n))
	return 2
}

func (p *pattern) appendReplacement(l *vm.LState, out []byte, with vm.LValue, start, end int) []byte {
	var v vm.LValue
	switch with := with.(type) {
	case vm.LString:
		return p.expand(l, out, string(with), start, end)
	case vm.LNumber:
		return p.expand(l, out, with.String(), start, end)
	case *vm.LTable:
		key := vm.LValue(vm.LString(p.subject[start:end]))
		if p.level > 0 {
			key = p.captured(0)
		}
		v = l.GetTable(with, key)
	case *vm.LFunction:
		l.Push(with)
		l.Call(p.pushCaptures(l, start, end, true), 1)
		v = l.Get(-1)
		l.Pop(1)
	}
	switch {
	case vm.LVIsFalse(v):
		return append(out, p.subject[start:end]...)
	case !vm.LVCanConvToString(v):
		l.RaiseError("invalid replacement value (a %s)", v.Type())
	}
	return append(out, v.String()...)
}

// expand replaces %0 to %9 in a replacement text; any other character after % stands for itself.
func (p *pattern) expand(l *vm.LState, out []byte, with string, start, end int) []byte {
	for i := 0; i < len(with); i++ {
		c := with[i]
		if c != '%' || i+1 == len(with) {
			out = append(out, c)
			continue
		}
		i++
		switch c = with[i]; {
		case !isDigit(c):
			out = append(out, c)
		case c == '0' || c == '1' && p.level == 0:
			out = append(out, p.subject[start:end]...)
		case int(c-'1') >= p.level:
			l.RaiseError("invalid capture index in the replacement")
		default:
			out = append(out, p.captured(int(c-'1')).String()...)
		}
		mustFit(l, len(out))
	}
	return out
}
