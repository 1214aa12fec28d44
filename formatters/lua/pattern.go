package lua

import (
	"errors"
	"strings"
)

// Limits of a pattern, as in Lua.
const (
	maxCaptures     = 32
	maxPatternDepth = 200
)

// Kinds of captures that have no length yet or never will.
const (
	captureOpen     = -1
	capturePosition = -2
)

// pattern matches one Lua pattern (Lua 5.1 manual §5.4.1, and %f) against one subject by backtracking.
// Each step is counted with spend, since patterns such as ".-.-.-x" take time that no one can foresee.
type pattern struct {
	subject, pattern string
	spend            func(steps int) error
	steps            int // not yet told to spend
	depth            int
	captures         [maxCaptures]capture
	level            int // captures in use
	err              error
}

type capture struct{ start, length int }

const noMatch = -1

// errors of patterns.
var (
	errPatternDepth    = errors.New("pattern too complex")
	errPatternCapture  = errors.New("invalid capture index")
	errPatternUnclosed = errors.New("unfinished capture")
	errPatternTooMany  = errors.New("too many captures")
	errPatternClose    = errors.New("invalid pattern capture")
	errPatternEscape   = errors.New("malformed pattern (ends with '%')")
	errPatternSet      = errors.New("malformed pattern (missing ']')")
	errPatternBalance  = errors.New("unbalanced pattern: write two characters after %b")
	errPatternFrontier = errors.New("missing '[' after '%f' in pattern")
)

// find gives the first match at or after from; start is noMatch if there is none. Captures are left in the pattern.
func (p *pattern) find(from int) (start, end int, err error) {
	anchored := strings.HasPrefix(p.pattern, "^")
	for s := from; s <= len(p.subject); s++ {
		if end := p.at(s, anchored); end != noMatch || p.err != nil {
			return s, end, p.err
		}
		if anchored {
			break
		}
	}
	return noMatch, noMatch, nil
}

// at tries a match at s; anchored says that the pattern starts with a ^ that is to be skipped.
func (p *pattern) at(s int, anchored bool) (end int) {
	p.level = 0
	first := 0
	if anchored {
		first = 1
	}
	end = p.match(s, first)
	if p.err != nil {
		return noMatch
	}
	for _, c := range p.captures[:p.level] {
		if end != noMatch && c.length == captureOpen {
			p.err = errPatternUnclosed
			return noMatch
		}
	}
	return end
}

// step counts; it is false once the match has to end.
func (p *pattern) step() bool {
	p.steps++
	if p.steps >= checkEvery && p.err == nil {
		p.err = p.spend(p.steps)
		p.steps = 0
	}
	return p.err == nil
}

func (p *pattern) fail(err error) int {
	if p.err == nil {
		p.err = err
	}
	return noMatch
}

// match matches pattern[i:] at subject[s:] and gives the end of the match.
func (p *pattern) match(s, i int) int {
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > maxPatternDepth {
		return p.fail(errPatternDepth)
	}
	for i < len(p.pattern) {
		if !p.step() {
			return noMatch
		}
		switch c := p.pattern[i]; {
		case c == '(':
			return p.open(s, i+1)
		case c == ')':
			return p.close(s, i+1)
		case c == '$' && i+1 == len(p.pattern):
			if s == len(p.subject) {
				return s
			}
			return noMatch
		case c == '%' && i+1 < len(p.pattern) && (p.pattern[i+1] == 'b' || p.pattern[i+1] == 'f' || isDigit(p.pattern[i+1])):
			s, i = p.special(s, i+1)
		default:
			var last bool
			if s, i, last = p.item(s, i); last {
				return s
			}
		}
		if s == noMatch {
			return noMatch
		}
	}
	return s
}

// special matches %b, %f and %1 to %9; i is where the letter is. It gives where to go on; s is noMatch if it does not match.
func (p *pattern) special(s, i int) (int, int) {
	switch p.pattern[i] {
	case 'b':
		return p.balance(s, i+1), i + 3
	case 'f':
		return p.frontier(s, i+1)
	}
	return p.back(s, p.pattern[i]), i + 1
}

// item matches a single character class with its suffix. It gives where to go on, or, if last is set, the end of the whole match:
// what repeats has to try the rest of the pattern itself.
func (p *pattern) item(s, i int) (next, rest int, last bool) {
	end := p.itemEnd(i)
	if end == noMatch {
		return noMatch, 0, true
	}
	suffix := byte(0)
	if end < len(p.pattern) {
		suffix = p.pattern[end]
	}
	switch suffix {
	case '?':
		if p.single(s, i, end) {
			if e := p.match(s+1, end+1); e != noMatch || p.err != nil {
				return e, 0, true
			}
		}
		return s, end + 1, false
	case '*':
		return p.longest(s, i, end, 0), 0, true
	case '+':
		return p.longest(s, i, end, 1), 0, true
	case '-':
		return p.shortest(s, i, end), 0, true
	}
	if !p.single(s, i, end) {
		return noMatch, 0, true
	}
	return s + 1, end, false
}

// itemEnd gives the end of the single character class that starts at i.
func (p *pattern) itemEnd(i int) int {
	switch p.pattern[i] {
	case '%':
		if i+1 >= len(p.pattern) {
			return p.fail(errPatternEscape)
		}
		return i + 2
	case '[':
		return p.setEnd(i)
	}
	return i + 1
}

// setEnd gives the end of the set that starts at i. A ] that comes first is of the set.
func (p *pattern) setEnd(i int) int {
	i++
	if i < len(p.pattern) && p.pattern[i] == '^' {
		i++
	}
	for first := true; ; first = false {
		switch {
		case i >= len(p.pattern) || !p.step():
			return p.fail(errPatternSet)
		case p.pattern[i] == ']' && !first:
			return i + 1
		case p.pattern[i] == '%':
			i++
		}
		i++
	}
}

// single says whether the class pattern[i:end] matches the byte at s.
func (p *pattern) single(s, i, end int) bool {
	if s >= len(p.subject) {
		return false
	}
	c := p.subject[s]
	switch p.pattern[i] {
	case '.':
		return true
	case '%':
		return inClass(c, p.pattern[i+1])
	case '[':
		return p.inSet(c, i, end)
	}
	return p.pattern[i] == c
}

// inSet looks through the set pattern[i:end], with both brackets.
func (p *pattern) inSet(c byte, i, end int) bool {
	i++
	yes := true
	if p.pattern[i] == '^' {
		yes = false
		i++
	}
	for last := end - 1; i < last; i++ {
		if !p.step() {
			return false
		}
		switch {
		case p.pattern[i] == '%':
			if i++; inClass(c, p.pattern[i]) {
				return yes
			}
		case i+2 < last && p.pattern[i+1] == '-':
			if p.pattern[i] <= c && c <= p.pattern[i+2] {
				return yes
			}
			i += 2
		case p.pattern[i] == c:
			return yes
		}
	}
	return !yes
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }

// inClass is %a, %d and so on; an upper-case letter is the complement, anything that is no class stands for itself.
func inClass(c, class byte) bool {
	in := false
	switch class | 0x20 {
	case 'a':
		in = isLower(c) || isUpper(c)
	case 'c':
		in = c < 0x20 || c == 0x7f
	case 'd':
		in = isDigit(c)
	case 'g':
		in = c > 0x20 && c < 0x7f
	case 'l':
		in = isLower(c)
	case 'p':
		in = c > 0x20 && c < 0x7f && !isLower(c) && !isUpper(c) && !isDigit(c)
	case 's':
		in = c == ' ' || '\t' <= c && c <= '\r'
	case 'u':
		in = isUpper(c)
	case 'w':
		in = isLower(c) || isUpper(c) || isDigit(c)
	case 'x':
		in = isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f'
	case 'z':
		in = c == 0
	default:
		return c == class
	}
	return in != isUpper(class)
}

// longest matches as many as possible of the class pattern[i:end], but at least some, and then the rest.
func (p *pattern) longest(s, i, end, least int) int {
	n := 0
	for p.step() && p.single(s+n, i, end) {
		n++
	}
	for ; n >= least && p.err == nil; n-- {
		if e := p.match(s+n, end+1); e != noMatch {
			return e
		}
	}
	return noMatch
}

// shortest matches as few as possible, and then the rest.
func (p *pattern) shortest(s, i, end int) int {
	for p.err == nil {
		if e := p.match(s, end+1); e != noMatch {
			return e
		}
		if !p.step() || !p.single(s, i, end) {
			return noMatch
		}
		s++
	}
	return noMatch
}

// open starts a capture at s; i is behind the parenthesis.
func (p *pattern) open(s, i int) int {
	kind := captureOpen
	if i < len(p.pattern) && p.pattern[i] == ')' {
		kind = capturePosition
		i++
	}
	if p.level >= maxCaptures {
		return p.fail(errPatternTooMany)
	}
	p.captures[p.level] = capture{s, kind}
	p.level++
	end := p.match(s, i)
	if end == noMatch {
		p.level--
	}
	return end
}

// close ends the innermost open capture before s.
func (p *pattern) close(s, i int) int {
	for c := p.level - 1; c >= 0; c-- {
		if p.captures[c].length == captureOpen {
			p.captures[c].length = s - p.captures[c].start
			end := p.match(s, i)
			if end == noMatch {
				p.captures[c].length = captureOpen
			}
			return end
		}
	}
	return p.fail(errPatternClose)
}

// balance matches %bxy; i is where x is.
func (p *pattern) balance(s, i int) int {
	if i+1 >= len(p.pattern) {
		return p.fail(errPatternBalance)
	}
	if s >= len(p.subject) || p.subject[s] != p.pattern[i] {
		return noMatch
	}
	inner := 1
	for s++; s < len(p.subject) && p.step(); s++ {
		switch p.subject[s] {
		case p.pattern[i+1]:
			if inner--; inner == 0 {
				return s + 1
			}
		case p.pattern[i]:
			inner++
		}
	}
	return noMatch
}

// frontier matches %f[set]; i is where the set is. It gives s and the position in the pattern after the set.
func (p *pattern) frontier(s, i int) (int, int) {
	if i >= len(p.pattern) || p.pattern[i] != '[' {
		return p.fail(errPatternFrontier), 0
	}
	end := p.setEnd(i)
	if end == noMatch {
		return noMatch, 0
	}
	before, after := byte(0), byte(0)
	if s > 0 {
		before = p.subject[s-1]
	}
	if s < len(p.subject) {
		after = p.subject[s]
	}
	if p.inSet(before, i, end) || !p.inSet(after, i, end) {
		return noMatch, 0
	}
	return s, end
}

// back matches what the capture with the digit n has matched.
func (p *pattern) back(s int, n byte) int {
	c := int(n) - '1'
	if c < 0 || c >= p.level || p.captures[c].length == captureOpen {
		return p.fail(errPatternCapture)
	}
	if p.captures[c].length == capturePosition {
		return noMatch
	}
	text := p.subject[p.captures[c].start:][:p.captures[c].length]
	p.steps += len(text) / 16
	if !p.step() || !strings.HasPrefix(p.subject[s:], text) {
		return noMatch
	}
	return s + len(text)
}
