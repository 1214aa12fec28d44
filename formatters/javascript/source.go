package javascript

import (
	"regexp"
	"strings"

	"github.com/dop251/goja"
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/parser"
)

// parse reads a source as scripts come: with a byte order mark, a line for a shell, or the export statements of a module.
func parse(source string) (*ast.Program, error) {
	source = strings.TrimPrefix(source, "\ufeff")
	if strings.HasPrefix(source, "#!") {
		source = "//" + source[2:]
	}
	tree, err := parser.ParseFile(nil, scriptName, source, 0, noSourceMaps)
	if err != nil && strings.Contains(source, "export") {
		if module, e := parser.ParseFile(nil, scriptName, withoutExports(source), 0, noSourceMaps); e == nil {
			tree, err = module, nil
		}
	}
	return tree, err
}

// compile makes the program of a source.
func compile(source string) (*goja.Program, error) {
	tree, err := parse(source)
	if err != nil {
		return nil, err
	}
	hoistBlockFunctions(tree)
	return goja.CompileAST(tree, false)
}

// Statements of a module that say what it exports, each at the beginning of a line.
var (
	exportedDeclaration = regexp.MustCompile(`(?m)^([ \t]*)export[ \t]+((?:default[ \t]+)?(?:async[ \t]+)?(?:function|class)\b[ \t*]*[\w$]+|(?:const|let|var)\b)`)
	exportedDefault     = regexp.MustCompile(`(?m)^([ \t]*)export[ \t]+default\b`)
	exportedNames       = regexp.MustCompile(`(?m)^[ \t]*export[ \t]*\{[^}]*\}[ \t]*;?`)
	defaultWord         = regexp.MustCompile(`^default[ \t]+`)
)

// withoutExports makes a script of a module that imports nothing. What it declares is found by its name anyway. Lines keep their numbers.
func withoutExports(source string) string {
	source = exportedDeclaration.ReplaceAllStringFunc(source, func(match string) string {
		parts := exportedDeclaration.FindStringSubmatch(match)
		return parts[1] + defaultWord.ReplaceAllString(parts[2], "")
	})
	source = exportedDefault.ReplaceAllString(source, "${1}module.exports =")
	return exportedNames.ReplaceAllStringFunc(source, func(match string) string { return strings.Repeat("\n", strings.Count(match, "\n")) })
}
