package javascript

import (
	"reflect"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
	"github.com/dop251/goja/token"
	"github.com/dop251/goja/unistring"
)

// hoistBlockFunctions makes functions that are declared in blocks known in the function around them, as ECMA-262 Annex B.3.3 has browsers and Node do it;
// the interpreter leaves that out. A declaration in a block becomes an assignment at the beginning of the block to a variable of the function. Strict code
// is left as it is, and names that a let, const, class or parameter around the block has.
func hoistBlockFunctions(program *ast.Program) {
	if strict(program.Body) {
		return
	}
	f := &functionScope{variables: &program.DeclarationList}
	f.enter(program.Body)
	f.walkList(program.Body)
}

// functionScope is a function that is looked through.
type functionScope struct {
	variables *[]*ast.VariableDeclaration
	taken     []unistring.String // names of the blocks around; nested blocks put theirs at the end
}

func strict(body []ast.Statement) bool {
	for _, s := range body {
		directive, ok := s.(*ast.ExpressionStatement)
		if !ok {
			return false
		}
		text, ok := directive.Expression.(*ast.StringLiteral)
		if !ok {
			return false
		}
		if text.Value == "use strict" {
			return true
		}
	}
	return false
}

// enter takes the names that a list of statements declares for its block.
func (f *functionScope) enter(list []ast.Statement) {
	for _, s := range list {
		switch s := s.(type) {
		case *ast.LexicalDeclaration:
			f.take(s.List)
		case *ast.ClassDeclaration:
			f.taken = append(f.taken, s.Class.Name.Name)
		}
	}
}

func (f *functionScope) take(list []*ast.Binding) {
	for _, b := range list {
		f.takeTarget(b.Target)
	}
}

// takeTarget takes the names in a binding, those of patterns too.
func (f *functionScope) takeTarget(target any) {
	walk(reflect.ValueOf(target), func(node any) bool {
		if id, ok := node.(*ast.Identifier); ok {
			f.taken = append(f.taken, id.Name)
		}
		return true
	})
}

// block hoists the functions of a block and gives its new statements.
func (f *functionScope) block(list []ast.Statement) []ast.Statement {
	depth := len(f.taken)
	defer func() { f.taken = f.taken[:depth] }()
	f.enter(list)
	var first, rest []ast.Statement
	for _, s := range list {
		if assignment := f.hoisted(s); assignment != nil {
			first = append(first, assignment)
		} else {
			rest = append(rest, s)
		}
	}
	out := list
	if first != nil {
		out = append(first, rest...)
	}
	f.walkList(out)
	return out
}

// hoisted gives the assignment that stands for a function declaration; nil if s is none, or must stay.
func (f *functionScope) hoisted(s ast.Statement) ast.Statement {
	d, ok := s.(*ast.FunctionDeclaration)
	if !ok || d.Function.Async || d.Function.Generator || d.Function.Name == nil {
		return nil
	}
	name := d.Function.Name
	for _, other := range f.taken {
		if other == name.Name {
			return nil
		}
	}
	*f.variables = append(*f.variables, &ast.VariableDeclaration{Var: name.Idx, List: []*ast.Binding{{Target: &ast.Identifier{Name: name.Name, Idx: name.Idx}}}})
	anonymous := *d.Function // by its own name the function means the variable, which can be written
	anonymous.Name = nil
	return &ast.ExpressionStatement{Expression: &ast.AssignExpression{Operator: token.ASSIGN, Left: &ast.Identifier{Name: name.Name, Idx: name.Idx}, Right: &anonymous}}
}

func (f *functionScope) walkList(list []ast.Statement) {
	for _, s := range list {
		f.walk(s)
	}
}

// walk looks for blocks and functions below a node.
func (f *functionScope) walk(node any) {
	walk(reflect.ValueOf(node), func(node any) bool {
		switch n := node.(type) {
		case *ast.BlockStatement:
			n.List = f.block(n.List)
		case *ast.CaseStatement:
			f.walk(n.Test)
			n.Consequent = f.block(n.Consequent)
		case *ast.IfStatement:
			f.walk(n.Test)
			n.Consequent, n.Alternate = f.branch(n.Consequent), f.branch(n.Alternate)
		case *ast.SwitchStatement, *ast.ForStatement, *ast.ForInStatement, *ast.ForOfStatement, *ast.CatchStatement:
			f.declaring(n)
		case *ast.FunctionLiteral:
			hoistIn(n.ParameterList, n.Body, &n.DeclarationList)
		case *ast.ArrowFunctionLiteral:
			body, ok := n.Body.(*ast.BlockStatement)
			if ok {
				hoistIn(n.ParameterList, body, &n.DeclarationList)
			}
			return !ok
		case *ast.ClassLiteral: // strict
		default:
			return true
		}
		return false
	})
}

// branch of an if, which may be a function without braces.
func (f *functionScope) branch(s ast.Statement) ast.Statement {
	if s == nil {
		return nil
	}
	if assignment := f.hoisted(s); assignment != nil {
		s = assignment
	}
	f.walk(s)
	return s
}

// declaring walks a statement that declares names for its body beside the body's own.
func (f *functionScope) declaring(node any) {
	depth := len(f.taken)
	defer func() { f.taken = f.taken[:depth] }()
	switch n := node.(type) {
	case *ast.SwitchStatement:
		f.walk(n.Discriminant)
		for _, c := range n.Body {
			f.enter(c.Consequent)
		}
		for _, c := range n.Body {
			f.walk(c)
		}
	case *ast.ForStatement:
		if let, ok := n.Initializer.(*ast.ForLoopInitializerLexicalDecl); ok {
			f.take(let.LexicalDeclaration.List)
		}
		f.walk(n.Initializer)
		f.walk(n.Test)
		f.walk(n.Update)
		f.walk(n.Body)
	case *ast.ForInStatement:
		f.into(n.Into, n.Source, n.Body)
	case *ast.ForOfStatement:
		f.into(n.Into, n.Source, n.Body)
	case *ast.CatchStatement:
		if n.Parameter != nil {
			f.takeTarget(n.Parameter)
		}
		f.walk(n.Body)
	}
}

func (f *functionScope) into(into ast.ForInto, source ast.Expression, body ast.Statement) {
	if let, ok := into.(*ast.ForDeclaration); ok {
		f.takeTarget(let.Target)
	}
	f.walk(source)
	f.walk(body)
}

// hoistIn looks through a function. In a strict one nothing is to be done.
func hoistIn(parameters *ast.ParameterList, body *ast.BlockStatement, variables *[]*ast.VariableDeclaration) {
	if strict(body.List) {
		return
	}
	f := &functionScope{variables: variables}
	if parameters != nil {
		f.take(parameters.List)
		f.takeTarget(parameters.Rest)
		f.taken = append(f.taken, "arguments")
		f.walk(parameters)
	}
	f.enter(body.List)
	f.walkList(body.List)
}

var (
	fileType = reflect.TypeFor[*file.File]()
	nodes    = map[reflect.Kind]bool{reflect.Pointer: true, reflect.Interface: true, reflect.Slice: true, reflect.Struct: true}
)

// walk visits v and what hangs on it, unless visit says no.
func walk(v reflect.Value, visit func(node any) bool) {
	switch v.Kind() {
	case reflect.Interface:
		if !v.IsNil() {
			walk(v.Elem(), visit)
		}
	case reflect.Pointer:
		if !v.IsNil() && v.Type() != fileType && visit(v.Interface()) {
			walk(v.Elem(), visit)
		}
	case reflect.Slice:
		if nodes[v.Type().Elem().Kind()] {
			for i := range v.Len() {
				walk(v.Index(i), visit)
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if nodes[v.Field(i).Kind()] {
				walk(v.Field(i), visit)
			}
		}
	}
}
