package lua

import (
	vm "github.com/yuin/gopher-lua"
)

// library is a global table of functions and values. A script can change the table, but none of the values: Go functions, numbers and json.null.
type library struct {
	name   string
	values map[string]vm.LValue
}

// globalFunctions are the functions outside of any library. There is nothing that loads code, reads files, changes environments or stops the garbage collector.
var globalFunctions = newGlobals()

var libraries = []*library{
	{"string", functions(map[string]vm.LGFunction{
		"byte": stringByte, "char": stringChar, "find": stringFind, "format": stringFormat, "gmatch": stringGmatch, "gsub": stringGsub,
		"len": stringLen, "lower": stringLower, "match": stringMatch, "rep": stringRep, "reverse": stringReverse, "sub": stringSub,
		"upper": stringUpper, "pack": stringPack, "packsize": stringPacksize, "unpack": stringUnpack,
	})},
	{"table", functions(map[string]vm.LGFunction{
		"concat": tableConcat, "getn": tableGetn, "insert": tableInsert, "maxn": tableMaxn, "pack": tablePack, "remove": tableRemove,
		"sort": tableSort, "unpack": tableUnpack,
	})},
	{"math", newMath()},
	{"bit32", bit32Functions},
	{"bit", bit32Functions},
	{"bytes", newBytes()},
	{"hex", functions(map[string]vm.LGFunction{"encode": hexEncode, "decode": hexDecode})},
	{"base64", functions(map[string]vm.LGFunction{"encode": base64Encode, "decode": base64Decode})},
	{"json", with(functions(map[string]vm.LGFunction{"encode": jsonEncode, "decode": jsonDecode, "array": jsonArray, "object": jsonObject}), "null", jsonNull)},
	{"cayennelpp", functions(map[string]vm.LGFunction{"encode": cayenneEncode, "decode": cayenneDecode})},
	{"log", functions(map[string]vm.LGFunction{"info": drop, "warn": drop})},
	{"os", functions(map[string]vm.LGFunction{"time": osTime, "date": osDate, "difftime": osDifftime})},
}

func functions(given map[string]vm.LGFunction) map[string]vm.LValue {
	out := make(map[string]vm.LValue, len(given)+2)
	for name, f := range given {
		out[name] = &vm.LFunction{IsG: true, GFunction: f}
	}
	return out
}

// with adds a value.
func with(values map[string]vm.LValue, name string, v vm.LValue) map[string]vm.LValue {
	values[name] = v
	return values
}

// table makes the global table of a library.
func (lib *library) table() *vm.LTable {
	t := &vm.LTable{Metatable: vm.LNil}
	for name, v := range lib.values {
		t.RawSetString(name, v)
	}
	return t
}

// stringMethods makes the metatable of strings.
func stringMethods(library *vm.LTable) *vm.LTable {
	t := &vm.LTable{Metatable: vm.LNil}
	t.RawSetString("__index", library)
	return t
}

// shared are tables for scripts that can only read them, and the metatable of strings for those.
var (
	shared = func() map[string]*vm.LTable {
		out := map[string]*vm.LTable{}
		for _, lib := range libraries {
			out[lib.name] = lib.table()
		}
		return out
	}()
	sharedMethods = stringMethods(shared["string"])
)

// environment is what a script finds in its globals. A library that the script can only read is shared by all calls: making the tables
// would take longer than the call.
type environment struct {
	values  map[string]vm.LValue // shared tables among them
	private []*library
	all     bool // _G itself
}

// environmentFor has what a script can reach: a global by its name, or all of them by _G.
func environmentFor(c *checker) environment {
	e := environment{values: map[string]vm.LValue{guardedName: globalFunctions[guardedName]}, all: c.mentioned["_G"]}
	for name, f := range globalFunctions {
		if e.all || c.mentioned[name] {
			e.values[name] = f
		}
	}
	for _, lib := range libraries {
		isString := lib.name == "string" // always there, for the methods of strings, whose metatable is another way to it
		switch {
		case e.all || c.loose[lib.name] || isString && c.mentioned["getmetatable"]:
			e.private = append(e.private, lib)
		case isString || c.mentioned[lib.name]:
			e.values[lib.name] = shared[lib.name]
		}
	}
	return e
}

// newState makes a virtual machine. Its call stack does not grow on demand (MinimizeStackMemory): the growing one forgets frames
// when it overflows below pcall, and 16 kB are soon made.
func newState(r *run, e environment) *vm.LState {
	l := vm.NewState(vm.Options{
		CallStackSize: r.depth, RegistrySize: 256, RegistryMaxSize: maxRegistry, RegistryGrowStep: 1024,
		SkipOpenLibs: true,
	})
	l.SetContext(r)
	globals := l.G.Global
	methods := sharedMethods
	for name, v := range e.values {
		globals.RawSetString(name, v)
	}
	for _, lib := range e.private {
		t := lib.table()
		globals.RawSetString(lib.name, t)
		if lib.name == "string" {
			methods = stringMethods(t)
		}
	}
	l.SetMetatable(vm.LString(""), methods)
	if e.all {
		globals.RawSetString("_G", globals)
	}
	return l
}

// upstream gives functions of the virtual machine's own libraries that are safe as they are.
func upstream(open vm.LGFunction, library string, names ...string) map[string]vm.LValue {
	l := vm.NewState(vm.Options{SkipOpenLibs: true})
	defer l.Close()
	l.Push(l.NewFunction(open))
	l.Call(0, 0)
	out := make(map[string]vm.LValue, len(names))
	for _, name := range names {
		out[name] = l.G.Global.RawGetString(library).(*vm.LTable).RawGetString(name)
	}
	return out
}
