package lua

import (
	"fmt"
	"slices"
	"strings"

	vm "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
	"github.com/yuin/gopher-lua/parse"

	"lorikeet/messages"
)

// The parser keeps its stack on the heap and the compiler recurses without a limit, so hostile nesting is refused before either sees it.
const (
	maxNesting   = 100        // brackets and blocks in one another
	maxChain     = 1000       // operators in a row that nest to the right: .. ^ not - #
	maxGotos     = 500        // goto statements and labels; resolving them takes time with the square of their number
	maxList      = 200        // values in a list; the virtual machine has no more registers
	maxTree      = 1000       // depth of an expression or of elseif branches
	maxFunctions = 1000       // the compiler takes some 16 kB for each
	maxWork      = 50_000_000 // comparisons of constants; the compiler looks through those of the function for each one it meets
	maxConcat    = 50         // operands of one call of the guarded concatenation
)

const (
	chunk       = "script"     // how run-time errors name the source: script:3:
	guardedName = "\x00concat" // the global that stands for the operator .., which no script can name but as a member of _G
)

func compileError(line int, format string, args ...any) error {
	if line > 0 {
		format = fmt.Sprintf("line %d: ", line) + format
	}
	return messages.Invalid("formatter_compile", format, args...)
}

// checkTokens bounds nesting, chains and labels, and explains the operators of Lua 5.3 that Lua 5.1 lacks.
// It gives the source with the escapes of Lua 5.1 and the line of the last token.
func checkTokens(source string) (text string, lastLine int, err error) {
	escaped, starts := []byte(source), lineStarts(source)
	scanner, lexer := parse.NewScanner(strings.NewReader(source), chunk), &parse.Lexer{}
	nesting, chain, labels := 0, 0, 0
	var last ast.Token
	for {
		t, err := scanner.Scan(lexer)
		if err != nil {
			return "", 0, explain(err, last.Pos.Line)
		}
		if hint := newOperator(last, t); hint != "" {
			return "", 0, compileError(t.Pos.Line, "%s", hint)
		}
		switch t.Type {
		case parse.EOF:
			return string(escaped), last.Pos.Line, nil
		case '(', '{', '[', parse.TFunction, parse.TDo, parse.TThen, parse.TRepeat:
			nesting++
		case ')', '}', ']', parse.TEnd, parse.TUntil, parse.TElseIf:
			nesting--
		case parse.TGoto, parse.T2Colon:
			labels++
		case parse.TString:
			if err := rewriteEscapes(escaped, starts, t); err != nil {
				return "", 0, err
			}
		}
		switch {
		case nestsRight(last, t):
			chain++
		case startsAnew(last, t):
			chain = 0
		}
		switch {
		case nesting > maxNesting:
			return "", 0, compileError(t.Pos.Line, "brackets or blocks are nested more than %d deep: split the code into functions", maxNesting)
		case chain > maxChain:
			return "", 0, compileError(t.Pos.Line, "more than %d operators in one expression: split it", maxChain)
		case labels > maxGotos:
			return "", 0, compileError(t.Pos.Line, "more than %d goto statements and labels: use loops and functions", maxGotos)
		}
		last, lexer.PrevTokenType = t, t.Type
	}
}

// nestsRight says whether the parser keeps t on its stack until the end of the expression: .. and ^ and operators with one operand.
func nestsRight(last, t ast.Token) bool {
	switch t.Type {
	case parse.T2Comma, '^', parse.TNot, '#':
		return true
	case '-':
		return !endsOperand(last)
	}
	return false
}

// startsAnew says whether t starts another expression.
func startsAnew(last, t ast.Token) bool {
	switch t.Type {
	case parse.TLocal, parse.TReturn, parse.TIf, parse.TThen, parse.TDo, parse.TEnd, '=', ',', ';':
		return true
	}
	return t.Type == parse.TIdent && endsOperand(last) // two operands side by side are in two statements
}

func endsOperand(t ast.Token) bool {
	switch t.Type {
	case parse.TIdent, parse.TNumber, parse.TString, parse.TTrue, parse.TFalse, parse.TNil, parse.T3Comma, parse.TEnd, ')', ']', '}':
		return true
	}
	return false
}

// replacements say what to write for an operator of Lua 5.3.
var replacements = map[string]string{
	"&": "bit32.band(a, b)", "|": "bit32.bor(a, b)", "~": "bit32.bxor(a, b) or bit32.bnot(a)",
	"<<": "bit32.lshift(a, n)", ">>": "bit32.rshift(a, n)", "//": "math.floor(a / b)",
}

// newOperator recognizes those operators of Lua 5.3 that the scanner takes for two of Lua 5.1.
func newOperator(last, t ast.Token) string {
	op := last.Str + t.Str
	if last.Type != t.Type || t.Type != '<' && t.Type != '>' && t.Type != '/' || last.Pos.Line != t.Pos.Line || last.Pos.Column+1 != t.Pos.Column {
		return ""
	}
	return hint(op)
}

func hint(op string) string {
	return fmt.Sprintf("the operator %s is of Lua 5.3; this is Lua 5.1: write %s", op, replacements[op])
}

// explain turns an error of the scanner or parser into one for the user. lastLine is that of the last token.
func explain(err error, lastLine int) error {
	e, ok := err.(*parse.Error)
	switch {
	case !ok:
		return compileError(0, "%s", clip(err.Error()))
	case replacements[e.Token] != "":
		return compileError(e.Pos.Line, "%s", hint(e.Token))
	case e.Pos.Line == parse.EOF:
		return compileError(lastLine, "the script ends too early: close all blocks with end, and all brackets, comments and quotes")
	}
	return compileError(e.Pos.Line, "%s near %.64q", strings.ToLower(e.Message[:1])+e.Message[1:], e.Token)
}

func compile(source string, lastLine int) (p *Program, err error) {
	// The compiler has panics for what it does not expect.
	defer func() {
		if broken := recover(); broken != nil {
			p, err = nil, compileError(0, "the compiler gave up: %v", broken)
		}
	}()
	statements, err := parse.Parse(strings.NewReader(source), chunk)
	if err != nil {
		return nil, explain(err, lastLine)
	}
	c := &checker{mentioned: map[string]bool{}, loose: map[string]bool{}}
	c.function(func() { c.statements(statements) })
	if c.err != nil {
		return nil, c.err
	}
	if c.functions > maxFunctions {
		return nil, compileError(0, "the script has %d functions, more than %d: put what is alike into tables", c.functions, maxFunctions)
	}
	proto, err := vm.Compile(statements, chunk)
	if err != nil {
		if e, ok := err.(*vm.CompileError); ok {
			return nil, compileError(e.Line, "%s", e.Message)
		}
		return nil, compileError(0, "%s", clip(err.Error()))
	}
	finish(proto)
	return &Program{proto: proto, env: environmentFor(c)}, nil
}

// finish makes tail calls ordinary ones, so that they count against the call depth: the virtual machine builds a traceback with a line
// for each tail call, which takes seconds after a loop of them. A tail call is always followed by a return of all results, as an ordinary call needs it.
// It also lets go of the memory that the compiler had in reserve.
func finish(p *vm.FunctionProto) {
	const operation = 26 // the position of the operation in an instruction
	for i, instruction := range p.Code {
		if int(instruction>>operation) == vm.OP_TAILCALL {
			p.Code[i] = instruction&(1<<operation-1) | uint32(vm.OP_CALL)<<operation
		}
	}
	p.Code, p.DbgSourcePositions, p.DbgCalls = slices.Clone(p.Code), slices.Clone(p.DbgSourcePositions), slices.Clone(p.DbgCalls)
	for _, inner := range p.FunctionPrototypes {
		finish(inner)
	}
}
