package main

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// A mutant is the text of a file with one place replaced.
type mutant struct {
	pkg      string // import path
	path     string // absolute path of the file
	file     string // path relative to the working directory
	line     int
	function string // name, or Type.name of a method; "-" outside functions
	text     string // describes the mutation; unique within the function

	from, to    int // byte offsets of the replaced text
	replacement string
}

// key identifies a mutant, also after lines were inserted above it.
func (m mutant) key() string {
	return m.file + ": " + m.function + ": " + m.text
}

func (m mutant) apply(source []byte) []byte {
	return []byte(string(source[:m.from]) + m.replacement + string(source[m.to:]))
}

// load returns all mutants of the files of the packages that are built on this platform.
func load(ctx context.Context, packages []string) ([]mutant, error) {
	const format = `{{range .GoFiles}}{{$.ImportPath}} {{$.Dir}}/{{.}}{{"\n"}}{{end}}`
	list := exec.CommandContext(ctx, "go", append([]string{"list", "-f", format}, packages...)...)
	list.Stderr = os.Stderr
	output, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	directory, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	var all []mutant
	for line := range strings.Lines(string(output)) {
		pkg, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		source, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		file, err := filepath.Rel(directory, path)
		if err != nil {
			return nil, err
		}
		found, err := find(file, source)
		if err != nil {
			return nil, err
		}
		for _, m := range found {
			m.pkg, m.path = pkg, path
			all = append(all, m)
		}
	}
	return all, nil
}

// A finder collects the mutants of one file.
type finder struct {
	tokens   *token.File
	source   []byte
	name     string
	function string
	seen     map[string]int
	mutants  []mutant
}

// find returns the mutants of a file without pkg and path.
func find(name string, source []byte) ([]mutant, error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	f := &finder{tokens: set.File(file.FileStart), source: source, name: name, seen: map[string]int{}}
	for _, declaration := range file.Decls {
		f.function = functionName(declaration)
		ast.Inspect(declaration, f.visit)
	}
	return f.mutants, nil
}

func functionName(declaration ast.Decl) string {
	f, ok := declaration.(*ast.FuncDecl)
	if !ok {
		return "-"
	}
	if f.Recv == nil {
		return f.Name.Name
	}
	receiver := f.Recv.List[0].Type
	for {
		switch r := receiver.(type) {
		case *ast.StarExpr:
			receiver = r.X
		case *ast.IndexExpr:
			receiver = r.X
		case *ast.IndexListExpr:
			receiver = r.X
		case *ast.Ident:
			return r.Name + "." + f.Name.Name
		default:
			return f.Name.Name
		}
	}
}

func (f *finder) visit(node ast.Node) bool {
	switch n := node.(type) {
	case *ast.BinaryExpr:
		for _, other := range flips(n.Op) {
			f.add(n.OpPos, n.OpPos+token.Pos(len(n.Op.String())), other.String(), n.Op.String()+" → "+other.String())
		}
	case *ast.UnaryExpr:
		if n.Op == token.NOT {
			f.add(n.OpPos, n.OpPos+1, "", "drop !")
		}
	case *ast.BasicLit:
		f.increment(n)
	case *ast.IfStmt:
		f.condition(n.Cond)
	case *ast.SwitchStmt:
		f.clauses(n.Body, n.Tag == nil)
	case *ast.TypeSwitchStmt:
		f.clauses(n.Body, false)
	case *ast.SelectStmt:
		f.clauses(n.Body, false)
	case *ast.BlockStmt:
		f.statements(n.List)
	case *ast.CaseClause:
		f.statements(n.Body)
	case *ast.CommClause:
		f.statements(n.Body)
	}
	return true
}

// flips returns the operators that replace a comparison or logical operator: its negation,
// and for an ordered comparison the one with the other boundary.
func flips(operator token.Token) []token.Token {
	return map[token.Token][]token.Token{
		token.EQL:  {token.NEQ},
		token.NEQ:  {token.EQL},
		token.LSS:  {token.LEQ, token.GEQ},
		token.LEQ:  {token.LSS, token.GTR},
		token.GTR:  {token.GEQ, token.LEQ},
		token.GEQ:  {token.GTR, token.LSS},
		token.LAND: {token.LOR},
		token.LOR:  {token.LAND},
	}[operator]
}

func (f *finder) increment(n *ast.BasicLit) {
	value, err := strconv.ParseInt(n.Value, 0, 64)
	if n.Kind != token.INT || err != nil {
		return
	}
	next := strconv.FormatInt(value+1, 10)
	f.add(n.Pos(), n.End(), next, n.Value+" → "+next)
}

// condition adds no negation of what visit already negates: comparisons and "!".
func (f *finder) condition(condition ast.Expr) {
	text := string(f.source[f.tokens.Offset(condition.Pos()):f.tokens.Offset(condition.End())])
	// Like this, its variables are still used.
	f.add(condition.Pos(), condition.End(), "false && ("+text+")", "condition → false")
	switch c := ast.Unparen(condition).(type) {
	case *ast.UnaryExpr:
		return
	case *ast.BinaryExpr:
		if c.Op != token.LAND && c.Op != token.LOR {
			return
		}
	}
	f.add(condition.Pos(), condition.End(), "!("+text+")", "negate condition")
}

func (f *finder) clauses(body *ast.BlockStmt, areConditions bool) {
	for _, statement := range body.List {
		if clause, ok := statement.(*ast.CaseClause); ok && areConditions && clause.List != nil {
			for _, condition := range clause.List {
				f.condition(condition)
			}
			continue
		}
		f.add(statement.Pos(), statement.End(), "", "drop clause")
	}
}

func (f *finder) statements(list []ast.Stmt) {
	for _, statement := range list {
		switch s := statement.(type) {
		case *ast.ExprStmt, *ast.IncDecStmt:
		case *ast.AssignStmt:
			if s.Tok == token.DEFINE {
				continue
			}
		case *ast.BranchStmt:
			if s.Tok != token.BREAK && s.Tok != token.CONTINUE {
				continue
			}
		default:
			continue
		}
		f.add(statement.Pos(), statement.End(), "", "drop statement")
	}
}

// add describes the mutation by what it does and by the line where it begins.
func (f *finder) add(from, to token.Pos, replacement, what string) {
	line := f.tokens.Line(from)
	begin := f.tokens.Offset(f.tokens.LineStart(line))
	context, _, _ := strings.Cut(string(f.source[begin:]), "\n")
	text := fmt.Sprintf("%s in `%s`", what, strings.TrimSpace(context))
	f.seen[f.function+": "+text]++
	if n := f.seen[f.function+": "+text]; n > 1 {
		text += fmt.Sprintf(" #%d", n)
	}
	f.mutants = append(f.mutants, mutant{
		file: f.name, line: line, function: f.function, text: text,
		from: f.tokens.Offset(from), to: f.tokens.Offset(to), replacement: replacement,
	})
}
