class ConformanceSuite: pass
