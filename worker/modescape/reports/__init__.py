"""Reports: notes between figures, claims and numbers of experiments, which are references and no copies.

    told = Teller(store, artifacts).told(report)          # numbered, with what everything says now
    write(told, "tex", Path("report.zip"), opening)       # taken home (reports.taken)

What may stand in one is in `blocks`, how its notes are read in `notes`, what its references say in `telling`.
"""
