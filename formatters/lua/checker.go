package lua

import (
	"github.com/yuin/gopher-lua/ast"
)

// checker walks the syntax tree before it is compiled: it bounds its depth and the compiler's work, notes which names are mentioned,
// and replaces each a..b by a call of a library function, since the instruction of the virtual machine makes strings of any length.
type checker struct {
	mentioned map[string]bool // identifiers
	loose     map[string]bool // those that are used otherwise than to read name.member, so that what they name may be changed or passed on
	constants map[string]bool // of the function that is being walked
	functions int
	depth     int
	work      int
	err       error
}

// function walks the body of a function, which has its own constants.
func (c *checker) function(body func()) {
	c.functions++
	outer := c.constants
	c.constants = map[string]bool{}
	body()
	c.constants = outer
}

func (c *checker) constant(kind byte, text string) {
	c.constants[string(kind)+text] = true
	c.work += len(c.constants)
}

// down says whether the walk may go one level deeper; up must follow.
func (c *checker) down(at ast.PositionHolder) bool {
	c.depth++
	switch {
	case c.err != nil:
		return false
	case c.depth > maxTree:
		c.err = compileError(at.Line(), "an expression or a row of elseif is more than %d deep: split it", maxTree)
	case c.work > maxWork:
		c.err = compileError(at.Line(), "a function has too many constants: split large tables and functions")
	}
	return c.err == nil
}

func (c *checker) up() { c.depth-- }

func (c *checker) statements(list []ast.Stmt) {
	for _, s := range list {
		c.statement(s)
	}
}

func (c *checker) statement(s ast.Stmt) {
	if !c.down(s) {
		c.up()
		return
	}
	defer c.up()
	switch s := s.(type) {
	case *ast.AssignStmt:
		c.list(s, len(s.Lhs))
		for i := range s.Lhs {
			c.target(s.Lhs[i])
		}
		c.expressions(s.Rhs)
	case *ast.LocalAssignStmt:
		c.list(s, len(s.Names))
		c.expressions(s.Exprs)
	case *ast.FuncCallStmt:
		c.expression(&s.Expr)
	case *ast.DoBlockStmt:
		c.statements(s.Stmts)
	case *ast.WhileStmt:
		c.expression(&s.Condition)
		c.statements(s.Stmts)
	case *ast.RepeatStmt:
		c.statements(s.Stmts)
		c.expression(&s.Condition)
	case *ast.IfStmt:
		c.expression(&s.Condition)
		c.statements(s.Then)
		c.statements(s.Else)
	case *ast.NumberForStmt:
		c.expression(&s.Init)
		c.expression(&s.Limit)
		if s.Step != nil {
			c.expression(&s.Step)
		}
		c.statements(s.Stmts)
	case *ast.GenericForStmt:
		c.expressions(s.Exprs)
		c.statements(s.Stmts)
	case *ast.FuncDefStmt:
		if s.Name.Func != nil {
			c.target(s.Name.Func)
		}
		if s.Name.Receiver != nil {
			c.expression(&s.Name.Receiver)
		}
		c.constant('"', s.Name.Method)
		c.function(func() { c.statements(s.Func.Stmts) })
	case *ast.ReturnStmt:
		c.list(s, len(s.Exprs))
		c.expressions(s.Exprs)
	}
}

// list bounds what is not in a table; the compiler would notice only after all of it.
func (c *checker) list(at ast.PositionHolder, n int) {
	if n > maxList && c.err == nil {
		c.err = compileError(at.Line(), "a list of %d values is longer than %d: use a table", n, maxList)
	}
}

func (c *checker) expressions(list []ast.Expr) {
	for i := range list {
		c.expression(&list[i])
	}
}

// expression walks *e and may replace it.
func (c *checker) expression(e *ast.Expr) {
	if !c.down(*e) {
		c.up()
		return
	}
	defer c.up()
	switch x := (*e).(type) {
	case *ast.NumberExpr:
		c.constant('#', x.Value)
	case *ast.StringExpr:
		c.constant('"', x.Value)
	case *ast.IdentExpr:
		c.mentioned[x.Value], c.loose[x.Value] = true, true
		c.constant('"', x.Value)
	case *ast.AttrGetExpr:
		c.member(x)
	case *ast.TableExpr:
		for _, f := range x.Fields {
			if f.Key != nil {
				c.expression(&f.Key)
			}
			c.expression(&f.Value)
		}
	case *ast.FuncCallExpr:
		c.call(x)
	case *ast.LogicalOpExpr:
		c.expression(&x.Lhs)
		c.expression(&x.Rhs)
	case *ast.RelationalOpExpr:
		c.expression(&x.Lhs)
		c.expression(&x.Rhs)
	case *ast.ArithmeticOpExpr:
		c.expression(&x.Lhs)
		c.expression(&x.Rhs)
	case *ast.StringConcatOpExpr:
		*e = c.concat(x)
	case *ast.UnaryMinusOpExpr:
		c.expression(&x.Expr)
	case *ast.UnaryNotOpExpr:
		c.expression(&x.Expr)
	case *ast.UnaryLenOpExpr:
		c.expression(&x.Expr)
	case *ast.FunctionExpr:
		c.function(func() { c.statements(x.Stmts) })
	}
}

// member walks a read of object.key or object[key].
func (c *checker) member(x *ast.AttrGetExpr) {
	name, isName := x.Object.(*ast.IdentExpr)
	_, isConstant := x.Key.(*ast.StringExpr)
	if isName && isConstant {
		c.mentioned[name.Value] = true
		c.constant('"', name.Value)
	} else {
		c.expression(&x.Object)
	}
	c.expression(&x.Key)
}

// target walks what is assigned to. It is never replaced.
func (c *checker) target(e ast.Expr) {
	if x, ok := e.(*ast.AttrGetExpr); ok {
		c.expression(&x.Object)
		c.expression(&x.Key)
		return
	}
	c.expression(&e)
}

func (c *checker) call(x *ast.FuncCallExpr) {
	if x.Func != nil {
		c.expression(&x.Func)
	}
	if x.Receiver != nil {
		c.expression(&x.Receiver)
		c.constant('"', x.Method)
	}
	c.list(x, len(x.Args))
	c.expressions(x.Args)
}

// concat makes guarded(a, b, c) of a..b..c. A long chain becomes guarded(a, ..., guarded(...)), which evaluates and joins in the same order.
func (c *checker) concat(x *ast.StringConcatOpExpr) ast.Expr {
	operands := []ast.Expr{x.Lhs}
	rest := x.Rhs
	for {
		next, ok := rest.(*ast.StringConcatOpExpr)
		if !ok {
			break
		}
		operands, rest = append(operands, next.Lhs), next.Rhs
	}
	operands = append(operands, oneValue(rest))
	c.expressions(operands)
	for len(operands) > maxConcat {
		cut := len(operands) - maxConcat
		operands = append(operands[:cut:cut], guarded(x, operands[cut:]))
	}
	return guarded(x, operands)
}

// oneValue keeps a call or "..." from giving more than one value where it becomes the last argument.
func oneValue(e ast.Expr) ast.Expr {
	switch x := e.(type) {
	case *ast.FuncCallExpr:
		x.AdjustRet = true
	case *ast.Comma3Expr:
		x.AdjustRet = true
	}
	return e
}

func guarded(at ast.PositionHolder, operands []ast.Expr) ast.Expr {
	f := &ast.IdentExpr{Value: guardedName}
	call := &ast.FuncCallExpr{Func: f, Args: operands, AdjustRet: true}
	for _, node := range []ast.PositionHolder{f, call} {
		node.SetLine(at.Line())
		node.SetLastLine(at.LastLine())
	}
	return call
}
