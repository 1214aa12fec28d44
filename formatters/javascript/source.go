package javascript

import (
	"errors"
	"regexp"
	"strings"

	"github.com/dop251/goja"
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
	"github.com/dop251/goja/parser"
)

// parse reads a source as scripts come: with a byte order mark, a line for a shell, or the export statements of a module.
func parse(source string) (*ast.Program, error) {
	source = strings.TrimPrefix(source, "\ufeff")
	if strings.HasPrefix(source, "#!") {
		source = "//" + source[2:]
	}
	tree, err := parseScript(source)
	if err != nil && strings.Contains(source, "export") {
		if module, e := parseScript(withoutExports(source)); e == nil {
			return module, nil
		}
	}
	return tree, err
}

// maxRepairs bounds how often a source is read anew.
const maxRepairs = 64

// parseScript reads a source; numbers such as 08 are decimal, as other interpreters take them.
func parseScript(source string) (*ast.Program, error) {
	for repairs := 0; ; repairs++ {
		tree, err := parser.ParseFile(nil, scriptName, source, 0, noSourceMaps)
		var list parser.ErrorList
		if !errors.As(err, &list) || len(list) == 0 || repairs == maxRepairs {
			return tree, err
		}
		repaired, ok := withoutLeadingZeros(source, list[0].Position)
		if !ok {
			return tree, err
		}
		source = repaired
	}
}

var falseOctal = regexp.MustCompile(`^0+([0-7]*[89]\d*)`)

// withoutLeadingZeros makes a decimal of the number at a place, if it has digits that an octal one can't have. The rest keeps its place.
func withoutLeadingZeros(source string, at file.Position) (string, bool) {
	start := 0
	for range at.Line - 1 {
		n := strings.IndexByte(source[start:], '\n')
		if n < 0 {
			return "", false
		}
		start += n + 1
	}
	line := []rune(source[start:])
	if at.Column < 1 || at.Column > len(line) {
		return "", false
	}
	start += len(string(line[:at.Column-1]))
	number := falseOctal.FindStringSubmatch(source[start:])
	if number == nil {
		return "", false
	}
	return source[:start] + strings.Repeat(" ", len(number[0])-len(number[1])) + number[1] + source[start+len(number[0]):], true
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
